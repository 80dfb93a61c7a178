"""Predictions of a method for many images: a folder, a description of one, or a table with a row for every image.

    masks/                  <id>.png, original frame, 255 = occluded
    segface.yaml            path: segface/{id}.png, encoding: labels, label_order: segface, frame: aligned, ...
    all_methods.csv         method,image_id,path,encoding,frame,target,... or .parquet

Columns of a table and keys of a description are the fields of `Prediction`; lists are written `skin|nose`, colours
`#ff0000`, crops `12 40 512 512`. Relative paths are meant from the file's folder. Everything is joined by image id.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from s3pot.config import ConfigError, load_yaml, parse
from s3pot.predictions.prediction import Prediction

_LISTS = ("label_order", "classes")


class PredictionsError(ConfigError):
    """A table or description of predictions cannot be used; the message names it and what is wrong."""

    def __init__(self, source: Path, problem: str) -> None:
        super().__init__(str(source), [problem])


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of one method.

    Attributes:
        source: folder or file.
        by_id: predictions of the images asked for; whether their files are there is found out when they are read.
        unknown: ids with a prediction and no image, sorted.
    """

    source: Path
    by_id: Mapping[str, Prediction]
    unknown: tuple[str, ...]


def read_predictions(source: Path, ids: Collection[str], method: str | None = None) -> Predictions:
    """Read what a folder, description or table says of these images.

    Args:
        source: folder, .yaml, .csv or .parquet.
        ids: image ids.
        method: which method's rows of a table that holds several.

    Raises:
        FileNotFoundError: if there is nothing.
        PredictionsError: if it cannot be used, names an image twice, or none of the images.
    """
    if source.is_dir():
        files = {path.relative_to(source).with_suffix("").as_posix(): path for path in source.rglob("*.png")}
        known = {name: Prediction(path=source / f"{name}.png") for name in ids}
        unknown = tuple(sorted(set(files) - set(ids)))
        if files and len(unknown) == len(files):
            raise PredictionsError(source, _none_match(unknown[0], ids))
        return Predictions(source=source, by_id=known, unknown=unknown)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: neither a folder of <id>.png nor a .yaml, .csv or .parquet of predictions")
    if source.suffix in (".yaml", ".yml"):
        return Predictions(source=source, by_id=_described(source, ids, method), unknown=())
    return _tabled(source, ids, method)


def _described(source: Path, ids: Collection[str], method: str | None) -> dict[str, Prediction]:
    values = load_yaml(source)
    named = values.pop("method", None)
    if method not in (None, named):
        raise PredictionsError(source, f"describes the method {named!r}, not {method!r}")
    pattern = values.get("path")
    if not isinstance(pattern, str) or "{id}" not in pattern:
        raise PredictionsError(source, f"path must hold {{id}}, such as masks/{{id}}.png; got {pattern!r}")
    return {name: _prediction(source, values | {"path": pattern.replace("{id}", name)}) for name in ids}


def _tabled(source: Path, ids: Collection[str], method: str | None) -> Predictions:
    if source.suffix not in (".csv", ".parquet"):
        raise PredictionsError(source, "expected a folder, .yaml, .csv or .parquet")
    try:
        table = pd.read_csv(source, dtype=str) if source.suffix == ".csv" else pd.read_parquet(source)
    except (OSError, ValueError) as error:
        raise PredictionsError(source, f"cannot be read: {error}") from error
    missing = {"image_id", "path"} - set(table.columns)
    if missing:
        raise PredictionsError(source, f"lacks the columns {', '.join(sorted(missing))}")
    if "method" in table.columns:
        methods = sorted(table["method"].dropna().astype(str).unique())
        if method is None and len(methods) > 1:
            raise PredictionsError(source, f"holds several methods: say method={' or '.join(methods)}")
        if method is not None and method not in methods:
            raise PredictionsError(source, f"holds no method {method!r}, only {', '.join(methods)}")
        table = table if method is None else table[table["method"].astype(str) == method]
        table = table.drop(columns="method")
    elif method is not None:
        raise PredictionsError(source, f"has no column method, so method={method} chooses nothing")
    table["image_id"] = table["image_id"].astype(str)
    twice = table["image_id"][table["image_id"].duplicated()]
    if len(twice):
        raise PredictionsError(source, f"holds two predictions for {twice.iloc[0]!r}")
    unknown = tuple(sorted(set(table["image_id"]) - set(ids)))
    if len(table) and len(unknown) == len(table):
        raise PredictionsError(source, _none_match(unknown[0], ids))
    rows = table[table["image_id"].isin(ids)].to_dict("records")
    by_id = {
        row["image_id"]: _prediction(source, {str(k): v for k, v in row.items() if k != "image_id" and _given(v)})
        for row in rows
    }
    return Predictions(source=source, by_id=by_id, unknown=unknown)


def _none_match(theirs: str, ids: Collection[str]) -> str:
    ours = next(iter(sorted(ids)), "none")
    return f"holds no prediction for any image: its ids look like {theirs!r}, those of the images like {ours!r}"


def _given(value: Any) -> bool:
    if isinstance(value, str | None):
        return bool(value)
    return not isinstance(value, float) or value == value


def _prediction(source: Path, values: Mapping[str, Any]) -> Prediction:
    path = str(values["path"])
    try:
        read = {name: _read(name, value) for name, value in values.items()} | {"path": str(source.parent / path)}
    except ValueError as error:
        raise PredictionsError(source, f"{path}: {error}") from error
    return parse(Prediction, read, where=f"{source}: {path}")


def _read(name: str, value: Any) -> Any:
    """Read what a table holds as text."""
    if name in _LISTS:
        return value.split("|") if isinstance(value, str) else list(value)
    if name == "crop":
        return [float(number) for number in (re.split(r"[\s,|]+", value) if isinstance(value, str) else value)]
    if name == "threshold":
        return float(value)
    if name == "color" and isinstance(value, str):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError(f"color must be written #rrggbb, got {value!r}")
        return [int(value[place : place + 2], 16) for place in (1, 3, 5)]
    return value
