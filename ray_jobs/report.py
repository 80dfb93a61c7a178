"""Write one HTML page about a store and evaluations of it: table, pictures of every stage, worst and best cases.

    python ray_jobs/report.py store=runs/stores/dev evaluations.greedy=runs/evaluate/dev-greedy out=runs/dev.html

Faces are biometric data: pictures of them go into the page only with images=true.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.report import write_report
from ray_jobs.job_cli import absolute, job_command, run_alone

_log = logging.getLogger("s3pot.report")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What the page shows.

    Attributes:
        store: store the evaluations are about.
        evaluations: folder of each evaluation by the name it gets; the last one orders worst and best.
        out: HTML file.
        title: heading.
        note: sentence under the heading.
        pictures: at most this many images with pictures.
        images: put pictures of faces into the page.
    """

    store: Path
    evaluations: dict[str, Path] = field(default_factory=dict)
    out: Path = Path("runs/report.html")
    title: str = "S3POT report"
    note: str = ""
    pictures: int = 24
    images: bool = False


def report(config: ReportConfig) -> Path:
    """Write the page and return its path."""
    path = write_report(
        absolute(config.store),
        {name: absolute(folder) for name, folder in config.evaluations.items()},
        absolute(config.out),
        title=config.title,
        note=config.note,
        pictures=config.pictures,
        images=config.images,
    )
    _log.info("report: %s", path)
    return path


SMOKE: dict[str, Any] = {"pictures": 2}
command = job_command(ReportConfig, report, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
