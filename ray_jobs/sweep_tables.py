"""The tables of a sweep, made from its trials' folders alone.

    trials.parquet    one row per trial: cell, axes, seed, status, numbers
    images.parquet    one row per trial and image
    cells.parquet     one row per cell: mean with interval, difference to the compared cell with interval
    cells.md          the same for eyes

A cell's number is the mean over images of the mean over seeds: a seed is no image more. Intervals resample faces and
cut-outs [s3pot/metrics/intervals.py]; differences are paired per image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.sweep_results import image_means, paired
from ray_jobs.run_folder import write_text
from ray_jobs.sweep_config import NAME, Cell, CellPlan
from ray_jobs.trial import TABLE, TrialConfig, read_result
from s3pot.metrics.intervals import Interval, cluster_bootstrap_mean
from s3pot.metrics.summary import FAILED
from s3pot.seeding import generator

_COUNTED = ("seconds", "epochs", "images")
NOT_RUN = "missing"
"""Status of a trial that has not ended."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedTrial:
    """A trial of a sweep.

    Attributes:
        id: 12 hex digits of configuration and inputs.
        cell: whose it is.
        seed: its seed.
        config: the trial.
    """

    id: str
    cell: Cell
    seed: int
    config: TrialConfig

    def folder(self, sweep: Path) -> Path:
        """Return its folder in that of the sweep."""
        return sweep / "trials" / self.id

    def is_done(self, sweep: Path) -> bool:
        """Say whether it has a result; one that failed is tried again."""
        result = read_result(self.folder(sweep))
        return result is not None and result["status"] == "ok"


def write_tables(sweep: Path, plan: CellPlan, trials: Sequence[PlannedTrial], metric: str) -> pd.DataFrame:
    """Write all tables; returns that of the cells."""
    table = trial_table(sweep, plan, trials)
    images = image_table(sweep, trials)
    cells = cell_table(plan, table, images, metric)
    for name, frame in (("trials", table), ("images", images), ("cells", cells)):
        part = sweep / f".{name}.parquet.part"
        frame.to_parquet(part, index=False)
        part.rename(sweep / f"{name}.parquet")
    write_text(sweep / "cells.md", as_markdown(cells, plan, metric))
    return cells


def trial_table(sweep: Path, plan: CellPlan, trials: Sequence[PlannedTrial]) -> pd.DataFrame:
    """Return one row per trial, in the order of the grid."""
    rows = []
    for trial in trials:
        result = read_result(trial.folder(sweep)) or {"status": NOT_RUN}
        known = {"trial": trial.id, "cell": trial.cell.id, NAME: trial.cell.name, "seed": trial.seed}
        rows.append(known | trial.cell.values | result)
    frame = _typed(pd.DataFrame(rows), plan.axes)
    first = ["trial", "cell", NAME, *plan.axes, "seed", "status", "error", "traceback", *_COUNTED]
    frame = frame.reindex(columns=[*first, *(name for name in frame.columns if name not in first)])
    numbers = [name for name in frame.columns if name not in first[: -len(_COUNTED)]]
    return frame.assign(**{name: frame[name].astype(float) for name in numbers})


def image_table(sweep: Path, trials: Sequence[PlannedTrial]) -> pd.DataFrame:
    """Return one row per trial that is done and image."""
    parts = []
    for trial in trials:
        if trial.is_done(sweep):
            table = pd.read_parquet(trial.folder(sweep) / TABLE)
            parts.append(table.assign(trial=trial.id, cell=trial.cell.id, seed=trial.seed))
    if not parts:
        return pd.DataFrame(columns=["trial", "cell", "seed", "id"])
    together = pd.concat(parts, ignore_index=True)
    return together[["trial", "cell", "seed", *(c for c in together.columns if c not in ("trial", "cell", "seed"))]]


def cell_table(plan: CellPlan, trials: pd.DataFrame, images: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one row per cell, in the order of the grid; NaN where no trial of a cell is done."""
    means = {cell.id: per_image(images[images["cell"] == cell.id], metric) for cell in plan.cells}
    rows = []
    for cell in plan.cells:
        done = trials[(trials["cell"] == cell.id) & (trials["status"] == "ok")]
        failed = trials[(trials["cell"] == cell.id) & (trials["status"] != "ok")]
        value = _interval(means[cell.id], None)
        difference = _interval(means[cell.id], means[plan.base]) if cell.id != plan.base else None
        rows.append(
            {"cell": cell.id, NAME: cell.name, "label": cell.label}
            | cell.values
            | {"seeds": len(done), "failed": len(failed), "mean": value.mean, "low": value.low, "high": value.high}
            | {"seed_deviation": float(done[metric].std(ddof=1)) if len(done) > 1 else math.nan, "n": value.n}
            | {
                "difference": math.nan if difference is None else difference.mean,
                "difference_low": math.nan if difference is None else difference.low,
                "difference_high": math.nan if difference is None else difference.high,
                "shown": difference is not None and difference.excludes(0.0),
                "seconds": float(done["seconds"].mean()),
            }
        )
    return _typed(pd.DataFrame(rows), plan.axes)


def per_image(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return face, cut-out and the mean over seeds of every image, by id; without images that lack a value."""
    if rows.empty:
        return pd.DataFrame(columns=["face_id", "cutout_id", "value"])
    found = image_means(rows, metric).dropna(subset="value")
    return found.astype({"face_id": str, "cutout_id": str})


def _interval(images: pd.DataFrame, other: pd.DataFrame | None) -> Interval:
    if other is not None:
        return paired(images, other)
    # The same draws for every cell, and those of `paired`: equal tables give equal intervals, whatever the others are.
    rng = generator(0, "sweep", "intervals")
    values = images["value"].to_numpy(float)
    return cluster_bootstrap_mean(values, images["face_id"].tolist(), images["cutout_id"].tolist(), rng=rng)


def _typed(frame: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Give every axis one type, so that it is a column of a Parquet file."""
    for axis in axes:
        kinds = {type(value) for value in frame[axis] if value is not None and value == value}
        if kinds <= {int, float} and kinds:
            frame[axis] = frame[axis].astype(float)
        elif len(kinds) > 1:
            frame[axis] = frame[axis].map(lambda value: None if value is None else str(value))
    return frame


def as_markdown(cells: pd.DataFrame, plan: CellPlan, metric: str) -> str:
    """Write the table of the cells for eyes; a difference that is shown, its interval without 0, is marked."""
    names = [NAME] * bool(cells[NAME].notna().any())
    header = [*names, *(axis.removeprefix("chain.prefix.") for axis in plan.axes), "seeds", metric, "difference"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in cells.to_dict("records"):
        values = [_text(row[key]) for key in (*names, *plan.axes)]
        mean = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        difference = "compared with" if row["cell"] == plan.base else _difference(row)
        failed = f" ({row['failed']} {FAILED})" if row["failed"] else ""
        lines.append("| " + " | ".join([*values, f"{row['seeds']}{failed}", mean, difference]) + " |")
    images = int(cells["n"].max()) if len(cells) else 0
    lines.append(
        f"\n{images} images; 95 % intervals over faces and cut-outs; * = the interval of the difference lacks 0"
    )
    return "\n".join(lines) + "\n"


def _difference(row: dict[str, Any]) -> str:
    bounds = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
    return bounds + (" *" if row["shown"] else "")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
