"""Compaction: few large manifest parts instead of many small ones, without rows that do not count any more.

New parts are written before old ones are removed, and old ones are removed in the order of writing, so that whoever
reads meanwhile, or after a compaction that was killed, sees the same rows. Large parts whose rows all count are left as
they are: compacting a store of a million images again costs what was added to it.
"""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from s3pot.store.errors import StoreError
from s3pot.store.manifest import SCHEMA, counting, list_parts, part_number, read_part, write_part

_LARGE = 64 * 2**20  # bytes; a part is read and written whole
_SMALLER = 4  # what a part of that size shrinks to on disk at most, nearly: pictures hardly compress
Places = Mapping[tuple[str, int], tuple[str, int]]
"""Old shard and row -> new shard and row."""


@contextmanager
def maintenance(root: Path) -> Iterator[None]:
    """Keep other compactions, repairs and prunings out of a store meanwhile; readers and writers go on.

    Raises:
        StoreError: if one is at work.
    """
    with (root / "store.json").open("r+b") as description:
        try:
            fcntl.flock(description, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"{root}: is being compacted, repaired or pruned by another process: wait for it"
            ) from error
        yield


def compact_parts(folder: Path, moved: Places | None = None, large: int = _LARGE) -> None:
    """Rewrite small parts, parts with rows that do not count, and parts with rows that have moved; see `maintenance`.

    Args:
        folder: manifest folder.
        moved: where the rows that name a place are to lead instead.
        large: bytes from which on a part is left alone.

    Raises:
        StoreError: if a part is damaged, or a new one cannot be written.
    """
    moved = moved or {}
    parts = list_parts(folder)
    rows = read_all_rows(parts, ["shard"])
    ends = np.cumsum(np.bincount(rows["part"], minlength=len(parts)))
    counts = np.split(rows["counts"].to_numpy(), ends[:-1])
    affected = rows["shard"].isin([shard for shard, _ in moved]).to_numpy() | ~rows["counts"].to_numpy()
    must = set(rows["part"].to_numpy()[affected])
    small = {number for number, part in enumerate(parts) if part.stat().st_size < large // _SMALLER}
    chosen = sorted(must | small if len(small) > 1 else must)
    if not chosen:
        return
    number = part_number(parts[chosen[-1]])
    old = [parts[place] for place in chosen]
    new = write_parts(folder, _kept_rows(old, [counts[place] for place in chosen], moved), number, large)
    for part in old:
        if part not in new:
            part.unlink(missing_ok=True)


def write_parts(folder: Path, tables: Iterator[pa.Table], number: int, large: int = _LARGE) -> set[Path]:
    """Write tables as few parts of about `large` bytes, all of one number; returns their files."""
    written: set[Path] = set()
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        if not len(table):
            continue
        waiting.append(table)
        size += table.nbytes
        if size >= large:
            written.add(write_part(folder, pa.concat_tables(waiting), number))
            waiting, size = [], 0
    if waiting:
        written.add(write_part(folder, pa.concat_tables(waiting), number))
    return written


def read_all_rows(parts: list[Path], columns: list[str]) -> pd.DataFrame:
    """Read every row of parts, those that do not count too, in the order of writing.

    Returns:
        `id`, `status`, the columns asked for, `part` (place in the list), and `counts`.
    """
    wanted = list(dict.fromkeys(["id", "status", *columns]))
    tables = [read_part(part, wanted) for part in parts]
    frame: pd.DataFrame = pa.concat_tables([SCHEMA.empty_table().select(wanted), *tables]).to_pandas()
    frame["part"] = np.repeat(np.arange(len(parts)), [len(table) for table in tables])
    frame["counts"] = counting(frame["id"], frame["status"])
    return frame


def _kept_rows(parts: list[Path], counts: list[np.ndarray], moved: Places) -> Iterator[pa.Table]:
    for part, kept in zip(parts, counts, strict=True):
        yield _at_new_places(read_part(part).filter(pa.array(kept)), moved)


def _at_new_places(table: pa.Table, moved: Places) -> pa.Table:
    if not moved:
        return table
    places = list(zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True))
    places = [moved.get(place, place) for place in places]
    for column, values in (("shard", [shard for shard, _ in places]), ("row", [row for _, row in places])):
        field = SCHEMA.field(column)
        table = table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type))
    return table
