"""Write one HTML page about results: evaluations, a sweep, a fleet of overfitted heads, or the tables of the paper.

    python ray_jobs/report.py store=runs/stores/dev evaluations.greedy=runs/evaluate/dev-greedy out=runs/dev.html
    python ray_jobs/report.py sweep=runs/sweep/lambda-alpha
    python ray_jobs/report.py fleet=runs/overfit/dev images=true
    python ray_jobs/report.py table1.standard=runs/evaluate/val table2=runs/sweep/table2 table3=runs/sweep/table3

Figures go to `figures/` and tables of the paper to `tables/` beside the page, which holds them too. Faces are biometric
data: pictures of them go into the page, or a file, only with images=true.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.fleet_report import write_fleet_report
from analysis.paper_report import write_paper_report
from analysis.report import write_report
from analysis.sweep_report import write_sweep_report
from ray_jobs.job_cli import absolute, job_command, run_alone

_log = logging.getLogger("s3pot.report")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What the page shows: a store with evaluations, a sweep, a fleet, or the tables of the paper.

    Attributes:
        store: store the evaluations are about; with `fleet`, in place of the one the fleet ran on.
        evaluations: folder of each evaluation by the name it gets; the last one orders worst and best, and is compared
            with the first.
        sweep: folder that `sweep` wrote.
        cell: of the sweep, id or name: its images are shown against the base; none = the highest mean.
        fleet: folder that `overfit` wrote.
        table1: folders of evaluations, fleets or ladders, by a row of the paper's Table 1 (`standard`, `per_image`) or
            a name of their own.
        table2: folder of the sweep over feature enhancement, selector and reweighter.
        table3: folder of the sweep over the terms of the objective.
        contrast: with `store`, draw what feature enhancement does (Fig. 9 of the paper); needs reference tokens.
        out: HTML file; none = `report.html` in the folder of the sweep or fleet, else in `runs`.
        title: heading; empty = what suits the page.
        note: sentence under the heading.
        pictures: at most this many images with pictures.
        images: put pictures of faces into the page.
    """

    store: Path | None = None
    evaluations: dict[str, Path] = field(default_factory=dict)
    sweep: Path | None = None
    cell: str | None = None
    fleet: Path | None = None
    table1: dict[str, Path] = field(default_factory=dict)
    table2: Path | None = None
    table3: Path | None = None
    contrast: bool = False
    out: Path | None = None
    title: str = ""
    note: str = ""
    pictures: int = 24
    images: bool = False

    def __post_init__(self) -> None:
        """Check that the page is about one thing, and that nothing is asked for that it does not show."""
        about = self._subjects()
        if len(about) != 1:
            found = ", ".join(about) if about else "none of them"
            raise ValueError(f"name one of store, sweep, fleet, or the tables table1, table2, table3; got {found}")
        allowed = {"store": {"evaluations", "contrast"}, "fleet": {"evaluations"}, "sweep": {"cell"}, "tables": set()}
        given = {name for name in ("evaluations", "contrast", "cell") if getattr(self, name)}
        if given - allowed[about[0]]:
            raise ValueError(f"{', '.join(sorted(given - allowed[about[0]]))} has no meaning with {about[0]}")

    def _subjects(self) -> list[str]:
        tables = bool(self.table1 or self.table2 or self.table3)
        named = {"sweep": self.sweep, "fleet": self.fleet, "tables": tables}
        # A fleet may come with another store.
        alone = {"store": None if self.fleet else self.store}
        return [name for name, value in (alone | named).items() if value]


def report(config: ReportConfig) -> Path:
    """Write the page and return its path."""
    shown: dict[str, Any] = {"note": config.note, "pictures": config.pictures, "images": config.images}
    evaluations = _absolute(config.evaluations)
    if config.sweep is not None:
        sweep = absolute(config.sweep)
        path = write_sweep_report(sweep, _out(config, sweep), title=config.title, cell=config.cell, **shown)
    elif config.fleet is not None:
        fleet = absolute(config.fleet)
        store = None if config.store is None else absolute(config.store)
        title = config.title or f"Overfitted heads: {fleet.name}"
        path = write_fleet_report(fleet, evaluations, _out(config, fleet), title=title, store=store, **shown)
    elif config.store is not None:
        title = config.title or "S3POT report"
        out, contrast = _out(config, Path("runs")), config.contrast
        path = write_report(absolute(config.store), evaluations, out, title=title, contrast=contrast, **shown)
    else:
        path = write_paper_report(
            _out(config, Path("runs/paper")),
            title=config.title or "Tables of the paper",
            note=config.note,
            table1=_absolute(config.table1),
            table2=None if config.table2 is None else absolute(config.table2),
            table3=None if config.table3 is None else absolute(config.table3),
        )
    _log.info("report: %s", path)
    return path


def _out(config: ReportConfig, folder: Path) -> Path:
    return absolute(config.out or folder / "report.html")


def _absolute(folders: dict[str, Path]) -> dict[str, Path]:
    return {name: absolute(folder) for name, folder in folders.items()}


SMOKE: dict[str, Any] = {"pictures": 2}
command = job_command(ReportConfig, report, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
