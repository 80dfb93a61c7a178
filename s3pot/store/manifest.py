"""The manifest: one row per image with status, prompts and the small arrays that pictures are made from.

Every writer appends a part of its own (`manifest/<name>.parquet`, atomically); the manifest is their union, and of
several rows for one image the last written counts. Schema version 1.
"""

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1

# `similarity` and the picture columns are compressed bytes: they are small, and read for few images at a time.
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string()),
        pa.field("status", pa.string(), nullable=False),  # ok, no_face, no_occlusion_prompts, no_face_prompts, failed
        pa.field("error", pa.string()),
        pa.field("shard", pa.string()),
        pa.field("row", pa.int32()),
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


def append_part(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a new part."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    # Time first: parts sort by when they were written.
    name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
    part = folder / f".{name}.part"
    try:
        pq.write_table(table, part, compression="zstd")
        os.replace(part, folder / name)
    finally:
        part.unlink(missing_ok=True)


def read_manifest(folder: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read all parts; one row per id, sorted by id, the last written of several.

    Args:
        folder: manifest folder; without parts the manifest is empty.
        columns: only these, and `id`; None = all.
    """
    parts = sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))
    wanted = SCHEMA.names if columns is None else list(dict.fromkeys(["id", *columns]))
    tables = [pq.read_table(path, columns=wanted, schema=SCHEMA) for path in parts]
    # The empty table first: no parts is a manifest without rows, and has its columns all the same.
    frame: pd.DataFrame = pa.concat_tables([SCHEMA.empty_table().select(wanted), *tables]).to_pandas()
    frame = frame.drop_duplicates("id", keep="last").sort_values("id", ignore_index=True)
    # Absent text is None, never NaN, for which `if row.truth_path` would be true.
    texts = [name for name in wanted if pa.types.is_string(SCHEMA.field(name).type)]
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), None)
    return frame
