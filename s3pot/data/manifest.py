"""The manifest of a dataset: one Parquet row per picture; docs/data.md describes every column.

Masks are PNG files of the picture's own size, upright as `read_image` gives it: `truth_path` 255 = occluded,
`region_path` 255 = inside the face region R [design 5.11]. Absent is null, and means unknown: a picture that is known
to be free of occluders has a truth that is 0 everywhere.
"""

import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3pot.data.safe_names import leads_out

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("split", pa.string()),
        pa.field("source", pa.string()),
        pa.field("identity", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("truth_path", pa.string()),
        pa.field("region_path", pa.string()),
        pa.field("parsing_path", pa.string()),
        pa.field("labels_path", pa.string()),
        pa.field("clean_path", pa.string()),
        pa.field("face_id", pa.string()),
        pa.field("cutout_id", pa.string()),
    ]
)
FILE = "manifest.parquet"
_PATHS = tuple(name for name in SCHEMA.names if name.endswith("path"))


class ManifestError(ValueError):
    """A manifest cannot be used; the message names it and what is wrong."""


def write_manifest(folder: Path, rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Write `<folder>/manifest.parquet`, whole or not at all, sorted by id; absent columns are null.

    Columns beyond the schema are kept after its own, as text.

    Returns:
        The manifest as `read_manifest` gives it.

    Raises:
        ManifestError: if an id stands there twice or leads out of a folder.
    """
    ordered = sorted((dict(row) for row in rows), key=lambda row: row["id"])
    further = sorted({name for row in ordered for name in row} - set(SCHEMA.names))
    schema = pa.schema([*SCHEMA, *(pa.field(name, pa.string()) for name in further)])
    table = pa.Table.from_pylist([{name: _value(row.get(name)) for name in schema.names} for row in ordered], schema)
    target = folder / FILE
    _check_ids(table.column("id").to_pylist(), target)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE}.{uuid.uuid4().hex[:8]}.part"
    try:
        pq.write_table(table, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return read_manifest(target)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest of ours or of anyone else's: `id` and `path` are needed, other columns are null when missing.

    Relative paths are meant from the manifest's folder. Absent values are None, never NaN.

    Raises:
        ManifestError: if it is no Parquet file, lacks a column, or its ids cannot be used.
    """
    try:
        frame = pq.read_table(path).to_pandas(integer_object_nulls=True)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    missing = [name for name in ("id", "path") if name not in frame.columns]
    if missing:
        raise ManifestError(f"{path}: the manifest lacks the columns {', '.join(missing)}")
    frame = frame.reindex(columns=[*SCHEMA.names, *(name for name in frame.columns if name not in SCHEMA.names)])
    frame = frame.astype(object).where(frame.notna(), None)
    frame["id"] = frame["id"].astype(str)
    _check_ids(frame["id"].tolist(), path)
    for name in _PATHS:
        # Left to itself, pandas would make text of the column, and NaN of None.
        absolute = [_absolute(path.parent, value) for value in frame[name]]
        frame[name] = pd.Series(absolute, index=frame.index, dtype=object)
    return frame


def join_manifests(paths: Iterable[Path]) -> pd.DataFrame:
    """Read several manifests as one.

    Raises:
        ManifestError: as `read_manifest`, or if an id stands in two of them.
    """
    frames = [(path, read_manifest(path)) for path in paths]
    seen: dict[str, Path] = {}
    for path, frame in frames:
        for name in frame["id"]:
            if name in seen:
                raise ManifestError(
                    f"{path}: the id {name!r} stands in {seen[name]}, too: import one of them with a prefix=, such as "
                    "prefix=ffhq/"
                )
            seen[name] = path
    return pd.concat([frame for _, frame in frames], ignore_index=True)


def _value(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else None if value is None or value != value else value


def _absolute(folder: Path, place: str | None) -> str | None:
    # A URI is a place of its own.
    return place if place is None or "://" in place else os.path.abspath(folder / place)


def _check_ids(ids: list[str], path: Path) -> None:
    for name in ids:
        if leads_out(name):
            raise ManifestError(f"{path}: the id {name!r} leads out of the folders that results are written to")
    if len(set(ids)) < len(ids):
        twice = next(name for place, name in enumerate(ids) if name in ids[:place])
        raise ManifestError(f"{path}: the id {twice!r} stands there more than once")
