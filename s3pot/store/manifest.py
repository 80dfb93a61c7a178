"""The manifest: one row per image with status, prompts and the small arrays that pictures are made from.

Every writer appends parts of its own (`manifest/<number>-<hash>.parquet`, atomically); the manifest is their union, and
of several rows for one image the last written counts. A row of status `withdrawn` takes its image out of the manifest:
it is to be done again, or gone for good. Schema version 2; docs/store.md describes every column.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3pot.store.atomic_files import sha256_of_bytes, write_file
from s3pot.store.errors import StoreError

SCHEMA_VERSION = 2

# `similarity` and the picture columns are compressed bytes: they are small, and read for few images at a time.
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("shard", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("key", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("original_height", pa.int32()),
        pa.field("original_width", pa.int32()),
        pa.field("to_original", pa.list_(pa.float64())),  # 6 numbers, row-major (2, 3), aligned -> original pixels
        pa.field("initial_prompt", pa.int32()),
        pa.field("occlusion_prompts", pa.list_(pa.int32())),
        pa.field("face_prompts", pa.list_(pa.int32())),
        pa.field("similarity", pa.binary()),  # (h*w,) fp16, little endian
        pa.field("parsing_png", pa.binary()),
        pa.field("reference_jpeg", pa.binary()),
        pa.field("seconds", pa.float32()),
        # Carried over from the input manifest, null where it has none.
        pa.field("truth_path", pa.string()),
        pa.field("region_path", pa.string()),
        pa.field("clean_path", pa.string()),
        pa.field("parsing_path", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("face_id", pa.string()),
        pa.field("cutout_id", pa.string()),
    ]
)
CARRIED = ("truth_path", "region_path", "clean_path", "parsing_path", "kind", "face_id", "cutout_id")

PROMPTED = ("ok", "no_occlusion_prompts", "no_face_prompts")
"""Statuses of images that have any prompts: one empty set is counted, not left out [design 5.1]."""
WITHDRAWN = "withdrawn"
STATUSES = (*PROMPTED, "no_face", "failed", WITHDRAWN)

_PART_NAME = re.compile(r"(\d{20})-[0-9a-f]{64}\.parquet")
_ATTEMPTS = 5
_Read = TypeVar("_Read")


def append_part(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as a new part, which comes after all parts that are there; returns its file.

    Raises:
        StoreError: if the part cannot be written; nothing of it is left then.
    """
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    newest = int(max(_part_names(folder), default="0")[:20])
    # The clock alone would let a machine whose clock is behind write rows that never count.
    return write_part(folder, table, max(time.time_ns(), newest + 1))


def write_part(folder: Path, table: pa.Table, number: int) -> Path:
    """Write a table as the part of this number; returns its file.

    Raises:
        StoreError: if the part cannot be written.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    name = f"{number:020d}-{sha256_of_bytes(data)}.parquet"
    write_file(folder, name, data)
    return folder / name


def part_number(part: Path) -> int:
    """Return the number that orders a part among others."""
    return int(part.name[:20])


def list_parts(folder: Path) -> list[Path]:
    """List the parts in the order of writing.

    A listing that runs while a compaction replaces parts could miss both the old and the new ones: nothing may have
    vanished since the listing before.
    """
    before: set[str] | None = None
    while True:
        names = _part_names(folder)
        if before is not None and before <= names:
            return [folder / name for name in sorted(names)]
        before = names


def is_part(name: str) -> bool:
    """Say whether a file of this name is a manifest part."""
    return _PART_NAME.fullmatch(name) is not None


def _part_names(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if is_part(name)} if folder.is_dir() else set()


def read_part(part: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one part, whole or some columns.

    Raises:
        StoreError: if it is damaged.
        FileNotFoundError: if it is gone.
    """
    try:
        with pq.ParquetFile(part) as opened:
            table = opened.read(columns=columns, use_threads=False)
        # In the order asked for; a file of other columns is none of ours.
        return table.select(SCHEMA.names if columns is None else columns)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(
            f"{part}: manifest part damaged ({str(error).splitlines()[0]}): `s3pot store verify --repair "
            f"{part.parent.parent}` drops it, then `s3pot encode` makes its images again"
        ) from error


def counting(ids: pd.Series, statuses: pd.Series) -> np.ndarray:
    """Say of each row, in the order of writing, whether it counts: the last of its id, and not withdrawn."""
    return ~ids.duplicated(keep="last").to_numpy() & (statuses != WITHDRAWN).to_numpy()


def read_manifest(folder: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read all parts; one row per id, sorted by id, the last written of several.

    Only the columns asked for are read: ids and statuses of a million images take seconds, their pictures do not.

    Args:
        folder: manifest folder; without parts the manifest is empty.
        columns: only these, and `id`; None = all.

    Raises:
        StoreError: if a part is damaged.
        KeyError: for an unknown column.
    """
    wanted = SCHEMA.names if columns is None else list(dict.fromkeys(["id", *columns]))
    table = read_consistently(folder, lambda parts: _counting_rows(parts, wanted))
    frame: pd.DataFrame = table.to_pandas(self_destruct=True, split_blocks=True)
    frame = frame.sort_values("id", ignore_index=True)
    # Absent text is None, never NaN, for which `if row.truth_path` would be true.
    texts = [name for name in wanted if SCHEMA.field(name).nullable and pa.types.is_string(SCHEMA.field(name).type)]
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), None)
    return frame


def read_consistently(folder: Path, read: Callable[[list[Path]], _Read]) -> _Read:
    """Read all parts, from the start again if a compaction took one away meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return read(list_parts(folder))
        except FileNotFoundError:
            continue
    return read(list_parts(folder))


def _counting_rows(parts: list[Path], wanted: list[str]) -> pa.Table:
    needed = list(dict.fromkeys([*wanted, "status"]))
    # The empty table first: no parts is a manifest without rows, and has its columns all the same.
    tables = [SCHEMA.empty_table().select(needed), *(read_part(part, needed) for part in parts)]
    keys = pa.concat_tables([table.select(["id", "status"]) for table in tables]).to_pandas()
    counts = counting(keys["id"], keys["status"])
    kept, first = [], 0
    for table in tables:
        # Part by part: the pictures of many images are more than one Arrow array can hold.
        kept.append(table.filter(pa.array(counts[first : first + len(table)])).select(wanted))
        first += len(table)
    return pa.concat_tables(kept)
