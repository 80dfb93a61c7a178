"""Verification: is every file of a store what was written, and does every row lead to what it promises?

Every shard and every manifest part is read whole and held against the hash in its name. Repairing removes what is
damaged and withdraws the images that lost something, so that `encode` makes exactly those again.
"""

import itertools
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from s3pot.checkpoints.reading import sha256_of
from s3pot.store.atomic_files import LEFTOVER, filesystem_time
from s3pot.store.compaction import compact_parts, maintenance, read_all_rows
from s3pot.store.errors import StoreError
from s3pot.store.manifest import PROMPTED, read_consistently
from s3pot.store.prompt_store import PromptStore
from s3pot.store.pruning import IN_FLIGHT_S
from s3pot.store.shards import read_shard_ids

ProblemKind = Literal[
    "truncated",  # a shard or part is shorter than its header says
    "damaged",  # its bytes are not those that were written
    "missing",  # a shard that rows name is not there
    "dangling",  # a row names no place, or one that holds another image
    "foreign",  # a row whose key is not that of its image and this store's chain
    "duplicate",  # an image that was encoded more than once from the same bytes
    "orphaned",  # a shard that no row names
    "leftover",  # what a killed writer was writing
]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with a store.

    Attributes:
        kind: what it is.
        file: which file it is about.
        images: ids of the rows it concerns, as far as they are known.
        detail: a sentence, or nothing.
    """

    kind: ProblemKind
    file: Path
    images: tuple[str, ...] = ()
    detail: str = ""


def verify(store: PromptStore, *, in_flight_s: float = IN_FLIGHT_S) -> list[Problem]:
    """Find what is wrong with a store; reads all of it.

    Args:
        store: an open store; encodings may be adding to it meanwhile.
        in_flight_s: age in seconds below which files without rows are taken for those of an encoding at work.

    Returns:
        Problems, those of the manifest first.
    """
    # Shards first: the rows of one that is written meanwhile come after it.
    shards = sorted(store.shards.glob("[!.]*")) if store.shards.is_dir() else []
    parts = read_consistently(store.manifest, _broken_parts)
    rows = read_consistently(
        store.manifest, lambda found: _rows(store, [part for part in found if part not in {p.file for p in parts}])
    )
    shards = [path for path in shards if path.is_file()]  # an unhurried pruning may have taken some away
    broken = {problem.file.name: problem for problem in _broken_files(shards)}
    held = {path.name: read_shard_ids(path) for path in shards if path.name not in broken}
    live = rows[rows["counts"]]
    of_shard = {str(shard): tuple(group) for shard, group in live.groupby("shard")["id"]}
    named = set(rows["shard"].dropna())
    return [
        *parts,
        *(
            Problem(kind=problem.kind, file=problem.file, images=of_shard.get(name, ()), detail=problem.detail)
            for name, problem in broken.items()
        ),
        *_wrong_rows(store, live, held, set(broken)),
        *_duplicates(store, rows),
        *_needless_files(store, [path for path in shards if path.name not in named | set(broken)], held, in_flight_s),
    ]


def repair(store: PromptStore, problems: Collection[Problem]) -> list[str]:
    """Remove what is damaged or needless and withdraw the images that lost something.

    Returns:
        Ids of rows that are to be encoded again, sorted; those of a damaged manifest part are not known and not among
        them, and are encoded again all the same.

    Raises:
        StoreError: if it cannot be written, or another process is pruning or repairing.
    """
    lost = {
        image_id
        for problem in problems
        if problem.kind in ("truncated", "damaged", "missing", "dangling", "foreign")
        for image_id in problem.images
    }
    with maintenance(store.root):
        for problem in problems:
            if problem.file.parent == store.manifest and problem.kind in ("truncated", "damaged"):
                problem.file.unlink(missing_ok=True)
        # Withdrawn before their shards go: a repair that is killed leaves shards without rows, not rows without shards.
        again = store.withdraw(lost)
        for problem in problems:
            if problem.kind in ("truncated", "damaged", "orphaned", "leftover"):
                problem.file.unlink(missing_ok=True)
        compact_parts(store.manifest)
    return again


def _broken_parts(parts: list[Path]) -> list[Problem]:
    return list(_broken_files(parts))


def _broken_files(files: Sequence[Path]) -> Iterator[Problem]:
    """Hold files against the hash in their names."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as threads:
        for path, found in zip(files, threads.map(sha256_of, files), strict=True):
            promised = path.stem.rpartition("-")[2]
            if found != promised:
                short = _is_short(path)
                detail = "shorter than its header says" if short else f"its content has the SHA-256 {found}"
                yield Problem(kind="truncated" if short else "damaged", file=path, detail=detail)


def _is_short(path: Path) -> bool:
    """Say whether a file ends early: a shard before its tensors do, a part before its closing mark."""
    size = path.stat().st_size
    with path.open("rb") as opened:
        if path.suffix == ".parquet":
            opened.seek(max(0, size - 4))
            return opened.read() != b"PAR1"
        head = opened.read(8)
        if len(head) < 8 or 8 + struct.unpack("<Q", head)[0] > size:
            return True
    try:
        read_shard_ids(path)  # safetensors refuses a file that its tensors do not fill exactly
    except StoreError as error:
        return "incomplete" in str(error) or "not fully covered" in str(error)
    return False


def _rows(store: PromptStore, parts: list[Path]) -> pd.DataFrame:
    return read_all_rows(parts, ["shard", "row", "key", "image_sha256"])


def _wrong_rows(
    store: PromptStore, live: pd.DataFrame, held: dict[str, list[str]], broken: set[str]
) -> Iterator[Problem]:
    """Hold rows that count against the shards they name."""
    gone: dict[str, list[str]] = {}
    tuples: Iterator[Any] = live.itertuples(index=False)
    for row in tuples:
        shard = None if pd.isna(row.shard) else str(row.shard)
        key = None if pd.isna(row.key) else row.key
        if key != store.key_of(None if pd.isna(row.image_sha256) else row.image_sha256):
            yield Problem(
                kind="foreign",
                file=store.manifest,
                images=(row.id,),
                detail="its key is not that of its image and this chain",
            )
        elif shard is None:
            if row.status in PROMPTED:
                yield Problem(kind="dangling", file=store.manifest, images=(row.id,), detail="its row names no shard")
        elif shard in held:
            ids, place = held[shard], -1 if pd.isna(row.row) else int(row.row)
            if not 0 <= place < len(ids) or ids[place] != row.id:
                there = f"holds {ids[place]}" if 0 <= place < len(ids) else f"is none of its {len(ids)}"
                yield Problem(
                    kind="dangling",
                    file=store.shards / shard,
                    images=(row.id,),
                    detail=f"row {place} of the shard {there}",
                )
        elif shard not in broken and not (store.shards / shard).is_file():
            gone.setdefault(shard, []).append(row.id)
    for shard, ids in gone.items():
        yield Problem(kind="missing", file=store.shards / shard, images=tuple(ids))


def _duplicates(store: PromptStore, rows: pd.DataFrame) -> Iterator[Problem]:
    """Find images of which a row was followed by another of the same key, none having been withdrawn in between."""
    several = rows[rows["id"].duplicated(keep=False)]
    for image_id, group in several.groupby("id"):
        # Withdrawn rows have no key: what comes after one is no repetition.
        keys = [None if pd.isna(key) else key for key in group["key"]]
        times = 1 + sum(first is not None and first == second for first, second in itertools.pairwise(keys))
        if times > 1:
            yield Problem(
                kind="duplicate", file=store.manifest, images=(str(image_id),), detail=f"encoded {times} times"
            )


def _needless_files(
    store: PromptStore, unnamed: list[Path], held: dict[str, list[str]], in_flight_s: float
) -> Iterator[Problem]:
    leftovers = [path for folder in (store.root, store.shards, store.manifest) for path in folder.glob(f".*{LEFTOVER}")]
    now = filesystem_time(store.root)
    for path in [*unnamed, *leftovers]:
        if now - path.stat().st_mtime >= in_flight_s:
            images = tuple(held.get(path.name, ()))
            yield Problem(kind="leftover" if path.suffix == LEFTOVER else "orphaned", file=path, images=images)
