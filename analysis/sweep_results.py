"""Sweep folders as `s3pot sweep` writes them: settings ("cells") of several axes, each trained with several seeds.

    sweep.json        title, axes, seeds, metric, where it was evaluated
    cells.parquet     one row per cell: values of the axes, mean with interval, difference to the base cell
    images.parquet    one row per trial and image, columns as `evaluate` writes them
    trials.parquet    one row per trial: cell, seed, status, numbers
    trials/<trial>/   history.jsonl and the rest of one trial

A number of a cell is the mean over images of the mean over seeds, so that a seed is no image more.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.results import ResultsError, read_table
from s3pot.metrics import Interval, paired_difference
from s3pot.seeding import generator

_CELL_COLUMNS = ("cell", "mean", "low", "high", "n")
_TRIAL_COLUMNS = ("trial", "cell", "seed", "status")
_IMAGE_COLUMNS = ("trial", "cell", "seed", "id", "face_id", "cutout_id")
NAME = "name"
"""Column of the names of named cells."""
_UNREAD, _NO_LIMIT = "–", "all"
AXIS_NAMES = {
    "most_prompts": "prompts",
    "reference_degradation": "reference blur",
    "lam": "λ",
    "alpha": "α",
    "feature_enhancement": "FE",
    "recall_face": "recall face",
    "recall_occlusion": "recall occlusion",
    "face_penalty": "face penalty",
    "tau": "τ",
    "centered": "centred",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """One sweep folder.

    Attributes:
        folder: where it lies.
        title: what was swept.
        axes: dotted keys, in order.
        seeds: of the trainings.
        metric: column of `images` that was averaged.
        about: the rest of sweep.json.
        cells: one row per cell, indexed by cell.
        trials: one row per trial, indexed by trial.
        images: one row per trial and image.
        base: cell that the others are compared with; None when the table names none.
        config: text of its config.yaml; empty when there is none.
    """

    folder: Path
    title: str
    axes: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    about: dict[str, Any]
    cells: pd.DataFrame
    trials: pd.DataFrame
    images: pd.DataFrame
    base: str | None
    config: str

    @property
    def varied(self) -> tuple[str, ...]:
        """What tells the cells apart: the names of named cells, and axes that these do not settle."""
        named = [NAME] if self.cells[NAME].nunique(dropna=False) > 1 else []
        settled = self.cells.groupby(NAME, dropna=False) if named else None
        axes = [axis for axis in self.axes if self.cells[axis].nunique(dropna=False) > 1]
        return (*named, *(axis for axis in axes if settled is None or settled[axis].nunique(dropna=False).max() > 1))

    def label(self, cell: str) -> str:
        """Name a cell by the values that tell it apart."""
        values = [axis_value(axis, self.cells.loc[cell, axis]) for axis in self.varied]
        return ", ".join(value for value in values if value) or self.title

    def per_image(self, cell: str, metric: str | None = None) -> pd.DataFrame:
        """Return kind, face, cut-out and value of every image of a cell, by id; the value is the mean over seeds.

        An image that failed with one seed has no value: a mean over fewer seeds would be another number.
        """
        return image_means(self.images[self.images["cell"] == cell], metric or self.metric)

    def difference(self, cell: str, other: str) -> Interval:
        """Return the mean of `cell - other`, paired per image, with its interval."""
        return paired(self.per_image(cell), self.per_image(other))

    def histories(self) -> pd.DataFrame:
        """Read what every trial wrote per epoch, with `trial`, `cell`, `seed`; empty when there is nothing.

        Raises:
            ResultsError: if a history is damaged.
        """
        rows = []
        for trial, row in self.trials.iterrows():
            path = self.folder / "trials" / str(trial) / "history.jsonl"
            if path.is_file():
                rows += [{"trial": trial, "cell": row["cell"], "seed": row["seed"]} | line for line in _lines(path)]
        return pd.DataFrame(rows)


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep folder.

    Raises:
        FileNotFoundError: if a file is missing.
        ResultsError: if one is damaged or does not fit the others.
    """
    about = _read_about(folder / "sweep.json")
    axes = tuple(str(axis) for axis in about.pop("axes"))
    cells = _indexed(_read(folder / "cells.parquet", (*_CELL_COLUMNS, *axes)), "cell", folder / "cells.parquet")
    cells = cells if NAME in cells.columns else cells.assign(**{NAME: None})
    trials = _indexed(_read(folder / "trials.parquet", _TRIAL_COLUMNS), "trial", folder / "trials.parquet")
    images = _read(folder / "images.parquet", _IMAGE_COLUMNS)
    metric = str(about.pop("metric", "iou_face_mask"))
    if metric not in images.columns:
        raise ResultsError(f"{folder / 'images.parquet'}: lacks the column {metric!r} that sweep.json names as metric")
    images = images.assign(
        cell=images["cell"].astype(str), trial=images["trial"].astype(str), id=images["id"].astype(str)
    )
    unknown = sorted(set(images["cell"]) - set(cells.index))
    if unknown:
        raise ResultsError(f"{folder}: images.parquet holds cell {unknown[0]!r}, cells.parquet does not: sweep again")
    config = folder / "config.yaml"
    return Sweep(
        folder=folder,
        title=str(about.pop("title", folder.name)),
        axes=axes,
        seeds=tuple(int(seed) for seed in about.pop("seeds", ())),
        metric=metric,
        cells=cells,
        trials=trials.assign(cell=trials["cell"].astype(str)),
        images=images,
        base=_base(cells, about.pop("base", None)),
        about=about,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
    )


def image_means(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Average the rows of one cell over its seeds: kind, face_id, cutout_id and value by id."""
    columns = [name for name in ("kind", "face_id", "cutout_id") if name in rows.columns]
    grouped = rows.groupby("id", sort=True)
    found = grouped[columns].first()
    values = grouped[metric].agg(lambda numbers: float(numbers.mean(skipna=False)))
    found = found.assign(value=values.astype(float))
    for name in ("face_id", "cutout_id"):
        found[name] = found[name].astype(object).where(found[name].notna(), found.index)
    return found


def paired(first: pd.DataFrame, second: pd.DataFrame, *, draws: tuple[str, str] = ("sweep", "intervals")) -> Interval:
    """Compare two tables of `image_means` on the images where both have a value; n = 0 where there are none.

    Args:
        first: minuend.
        second: subtrahend.
        draws: stage and item of the resampling, as the job has them that wrote the tables: equal data, equal interval.
    """
    pairs = first.assign(other=second["value"]).dropna(subset=["value", "other"])
    if pairs.empty:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, n=0, level=0.95)
    return paired_difference(
        pairs["value"].to_numpy(),
        pairs["other"].to_numpy(),
        pairs["face_id"].astype(str).tolist(),
        pairs["cutout_id"].astype(str).tolist(),
        rng=generator(0, *draws),
    )


def axis_name(axis: str) -> str:
    """Return what a reader calls an axis: the end of its dotted key, or the symbol of the paper."""
    last = axis.rpartition(".")[2]
    if last in ("kind", "variant") and "." in axis:
        last = axis.split(".")[-2]
    return AXIS_NAMES.get(last, last.replace("_", " "))


def axis_value(axis: str, value: Any) -> str:
    """Return an axis with its value: `λ 0.5`, `FE on`, `greedy`; nothing for a value that a cell does not read."""
    if isinstance(value, str) and value not in ("on", "off"):
        return value
    text = value_text(axis, value)
    return "" if text == _UNREAD else f"{axis_name(axis)} {text}"


def value_text(axis: str, value: Any) -> str:
    """Write a value of an axis."""
    if _is_absent(value):
        return _NO_LIMIT if axis.endswith("most_prompts") else _UNREAD
    if isinstance(value, (bool, np.bool_)):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def is_numeric(values: Sequence[Any] | pd.Series) -> bool:
    """Say whether all values of an axis are numbers, so that it can be drawn to scale."""
    return all(
        isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_)) for value in values
    )


def failed_trials(sweep: Sweep) -> pd.DataFrame:
    """Return the trials that failed or have not been run."""
    return sweep.trials[sweep.trials["status"] != "ok"]


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _read_about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: name a folder that `s3pot sweep` wrote")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(about["axes"], list):
            raise ValueError("axes is no list")
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}: damaged ({error!r}): run the sweep again, it redoes only what is missing"
        ) from error
    return dict(about)


def _read(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    return read_table(path, needed, "run `s3pot sweep` again, it redoes only what is missing")


def _indexed(table: pd.DataFrame, column: str, path: Path) -> pd.DataFrame:
    table = table.assign(**{column: table[column].astype(str)})
    twice = table.loc[table[column].duplicated(), column].tolist()
    if twice:
        raise ResultsError(f"{path}: holds {column} {twice[0]!r} twice")
    return table.set_index(column, drop=False)


def _base(cells: pd.DataFrame, named: Any) -> str | None:
    """Return the named base cell, or the one that differs from nothing."""
    if named is not None:
        return str(named) if str(named) in cells.index else None
    if "difference" not in cells.columns:
        return None
    itself = cells.index[cells["difference"].isna() & cells["mean"].notna()]
    return str(itself[0]) if len(itself) == 1 else None


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise ResultsError(f"{path}: damaged ({error}): delete the trial's folder and run the sweep again") from error
