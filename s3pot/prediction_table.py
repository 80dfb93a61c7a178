"""The table of a prediction: one row per face, what was found on it and what it was made from.

    <out>/table.parquet     all rows, written when a run ends
    <out>/parts/            rows of a run that is going on, or was interrupted; merged into the table when one ends

Of several rows for one photograph those of the part written last count, all faces together. A part is there whole or
not at all. One run at a time writes to a folder.
"""

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from s3pot.places import join_place, read_place, shown_place
from s3pot.store.errors import StoreError
from s3pot.store.place_files import remove_result, result_names, write_result

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),  # id of the photograph
        pa.field("face", pa.int32(), nullable=False),  # 1 = the most prominent; 0 = the photograph, which has no face
        pa.field("path", pa.string()),
        pa.field("status", pa.string(), nullable=False),  # ok, no_face, no_occlusion_prompts, no_face_prompts, failed
        pa.field("error", pa.string()),
        pa.field("score", pa.float32()),  # image-level occlusion score, 0 to 1
        pa.field("abstained", pa.bool_()),  # something was found, too little to be believed: its mask is empty
        pa.field("area", pa.int64()),  # occluded pixels
        pa.field("face_area", pa.int64()),  # pixels of the face, occluded ones among them
        pa.field("share", pa.float32()),  # area / face_area
        pa.field("rle", pa.string()),  # COCO run lengths of this face's occlusion, size = height, width
        pa.field("height", pa.int32()),  # of the photograph, upright
        pa.field("width", pa.int32()),
        pa.field("face_score", pa.float32()),  # how sure it is that this is a face; the locator's threshold is 0.3
        pa.field("box", pa.list_(pa.int32())),  # of the face: left, top, width, height in pixels
        pa.field("corners", pa.list_(pa.float32())),  # x, y of the crop's corners, clockwise from its own upper left
        pa.field("transductive", pa.bool_(), nullable=False),  # the head was fitted to this very face
        pa.field("score_before", pa.float32()),  # score by the trained head, of a face that a head was fitted to
        pa.field("fitting", pa.string()),  # identity of the settings of the fitting
        pa.field("mask", pa.string()),  # file of the photograph's mask, below the folder; all faces together
        pa.field("overlay", pa.string()),
        pa.field("seconds", pa.float32()),  # per photograph of its batch
        pa.field("image_sha256", pa.string()),
        pa.field("identity", pa.string(), nullable=False),  # of chain, head and abstention
    ]
)
_FLUSH_SECONDS, _FLUSH_SHARE = 5.0, 256


class PredictionTable:
    """The rows below a folder.

    Args:
        out: folder, a path or a URI.
    """

    def __init__(self, out: str) -> None:
        self.place = join_place(out, "table.parquet")
        self._folder, self._out = join_place(out, "parts"), out

    def parts(self) -> list[str]:
        """Return the places of the parts in the order of writing; some are there if a run was interrupted."""
        names = [name for name in result_names(self._folder) if name.endswith(".parquet") and not name.startswith(".")]
        return [join_place(self._folder, name) for name in names]

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows as a part; all rows of a photograph belong into one.

        Raises:
            StoreError: if it cannot be written.
        """
        parts = self.parts()
        newest = int(parts[-1].partition("?")[0].rpartition("/")[2].removesuffix(".parquet")) if parts else 0
        # The clock alone would let a machine whose clock is behind write rows that never count.
        number = max(time.time_ns(), newest + 1)
        place = join_place(self._folder, f"{number:020d}.parquet")
        write_result(place, _packed(pa.Table.from_pylist(rows, schema=SCHEMA)))

    def rows(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the rows that count, sorted by photograph and face.

        Args:
            columns: only these, and `image` and `face`; None = all.

        Raises:
            StoreError: if a file is damaged.
        """
        wanted = SCHEMA.names if columns is None else list(dict.fromkeys(["image", "face", *columns]))
        table = _counting(self._sources(), wanted)
        frame: pd.DataFrame = table.to_pandas(self_destruct=True, split_blocks=True)
        return frame.sort_values(["image", "face"], ignore_index=True)

    def merge(self) -> None:
        """Write the table anew, with the rows of all parts, and remove these.

        Raises:
            StoreError: if a file is damaged, or the table cannot be written.
        """
        parts = self.parts()
        if parts:
            table = _counting(self._sources(), SCHEMA.names).sort_by([("image", "ascending"), ("face", "ascending")])
            write_result(self.place, _packed(table))
            for part in parts:
                remove_result(part)

    def _sources(self) -> list[str]:
        there = "table.parquet" in result_names(self._out)
        return ([self.place] if there else []) + self.parts()


class TableWriter:
    """Collects rows and writes them as parts: often at first, then by shares of what is there, so that parts stay few.

    Args:
        table: takes them.
        now: clock in seconds.
    """

    def __init__(self, table: PredictionTable, now: Callable[[], float] = time.monotonic) -> None:
        self.table, self._now = table, now
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._written, self._last = 0, now()

    def add(self, image: str, rows: list[dict[str, Any]]) -> None:
        """Take the rows of a photograph."""
        self._waiting[image] = rows
        if self._now() - self._last >= _FLUSH_SECONDS and len(self._waiting) >= self._written / _FLUSH_SHARE:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            StoreError: if it cannot be written.
        """
        if self._waiting:
            self.table.append([row for rows in self._waiting.values() for row in rows])
        self._written += len(self._waiting)
        self._waiting, self._last = {}, self._now()


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _counting(sources: list[str], wanted: list[str]) -> pa.Table:
    """Read sources, the oldest first; of each photograph the rows of the last source it is in."""
    needed = list(dict.fromkeys(["image", *wanted]))
    tables = [_read(source, needed) for source in sources]
    seen: set[str] = set()
    kept = [SCHEMA.empty_table().select(wanted)]
    for table in reversed(tables):
        images = table["image"].to_pylist()
        kept.append(table.filter(pa.array([image not in seen for image in images], pa.bool_())).select(wanted))
        seen.update(images)
    return pa.concat_tables(kept)


def _read(source: str, columns: list[str]) -> pa.Table:
    try:
        opened = pq.ParquetFile(pa.BufferReader(read_place(source)))
        # All columns, whichever are asked for: a table that cannot be merged must be found before work is done for it.
        absent = [name for name in SCHEMA.names if name not in opened.schema_arrow.names]
        if absent:
            raise KeyError(f"no column {absent[0]}")
        return opened.read(columns=columns, use_threads=False).select(columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreError(
            f"{shown_place(source)}: damaged, or of another version of `s3pot predict` ({str(error).splitlines()[0]}): "
            "remove it, and its photographs are done again"
        ) from error
