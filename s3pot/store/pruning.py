"""Pruning: what a store holds besides its rows goes, and so does all that it holds of images that are to be removed.

Faces are biometric data: a removed image must not live on in a shard that other images need, in a manifest part that
was superseded, or in a shard that a killed encoding left. So every shard is held against the rows that count: one
without such rows is removed, one with some is written anew with those alone, and the manifest is compacted.

A pruning that is killed has removed the images from sight already; running it again does the rest.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from s3pot.alignment import image_of_face
from s3pot.store.atomic_files import LEFTOVER, filesystem_time
from s3pot.store.compaction import compact_parts, maintenance, read_all_rows
from s3pot.store.errors import StoreError
from s3pot.store.manifest import WITHDRAWN, append_part, list_parts
from s3pot.store.prompt_store import PromptStore
from s3pot.store.shards import keep_rows, read_shard_ids

IN_FLIGHT_S = 600.0
"""Seconds for which files without rows may belong to an encoding that is at work."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What a pruning did.

    Attributes:
        ids: rows that were removed, sorted.
        unknown: images that were to be removed, but have no rows.
        shards_removed: shards of which nothing was needed.
        shards_rewritten: shards of which a part was needed.
        bytes_freed: of shards, leftovers and the manifest.
        held_back: files that hold removed images, but are too young to touch: an encoding may be writing them.
    """

    ids: tuple[str, ...]
    unknown: tuple[str, ...]
    shards_removed: int
    shards_rewritten: int
    bytes_freed: int
    held_back: tuple[str, ...]


def prune(store: PromptStore, images: Collection[str] = (), *, in_flight_s: float = IN_FLIGHT_S) -> Pruned:
    """Remove images, their faces and all that is stored of them; compact the manifest.

    Args:
        store: what to clean.
        images: ids to remove; of photographs with several faces all faces, or one by its own id (`<id>#2`).
        in_flight_s: age in seconds below which shards without rows are left alone.

    Raises:
        StoreError: if something is damaged (`verify --repair` first), cannot be written, or is being pruned already.
    """
    with maintenance(store.root):
        before = _size(store.root)
        parts = list_parts(store.manifest)
        rows = read_all_rows(parts, ["shard", "row"])
        removed = _named(rows["id"], images, faces=store.description["chain"].get("faces") == "all")
        shown = rows["id"].isin(removed) & rows["counts"]
        if shown.any():
            append_part(store.manifest, [{"id": name, "status": WITHDRAWN} for name in sorted(rows["id"][shown])])
        needed = rows[rows["counts"] & ~rows["id"].isin(removed) & rows["shard"].notna()]
        theirs = set(rows["shard"][rows["id"].isin(removed)].dropna())
        plan = _plan(store, needed, theirs, removed | set(images), in_flight_s)
        moved: dict[tuple[str, int], tuple[str, int]] = {}
        for path, places in plan.rewrite:
            name = keep_rows(path, [row for row, _ in places])
            moved |= {(path.name, row): (name, number) for number, (row, _) in enumerate(places)}
        compact_parts(store.manifest, moved)
        # A pruning that was killed may have left the very shards that this one wrote again.
        written = {shard for shard, _ in moved.values()}
        for path in (*plan.remove, *(path for path, _ in plan.rewrite)):
            if path.name not in written:
                path.unlink(missing_ok=True)
        return Pruned(
            ids=tuple(sorted(removed)),
            unknown=tuple(sorted(set(images) - removed - {image_of_face(name) for name in removed})),
            shards_removed=sum(path.suffix != LEFTOVER for path in plan.remove),
            shards_rewritten=len(plan.rewrite),
            bytes_freed=before - _size(store.root),
            held_back=tuple(str(path) for path in plan.held_back),
        )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    remove: list[Path]
    rewrite: list[tuple[Path, list[tuple[int, str]]]]
    held_back: list[Path]


def _named(ids: pd.Series, images: Collection[str], *, faces: bool) -> set[str]:
    wanted = set(images)
    return {name for name in set(ids) if name in wanted or (faces and image_of_face(name) in wanted)}


def _plan(store: PromptStore, needed: pd.DataFrame, theirs: set[str], removed: set[str], in_flight_s: float) -> _Plan:
    """Decide on every file; `theirs` are shards that rows of removed images name."""
    plan = _Plan(remove=[], rewrite=[], held_back=[])
    places: dict[str, list[tuple[int, str]]] = {}
    for image_id, shard, row in zip(needed["id"], needed["shard"], needed["row"], strict=True):
        places.setdefault(shard, []).append((int(row), image_id))
    for path, age in _files_with_age(store):
        old = age >= in_flight_s
        if path.suffix == LEFTOVER:
            plan.remove.extend([path] if old else [])
            continue
        held, wanted = read_shard_ids(path), sorted(places.get(path.name, []))
        if [held[row] if row < len(held) else None for row, _ in wanted] != [image_id for _, image_id in wanted]:
            raise StoreError(f"{path}: is not what its rows say: `s3pot store verify --repair {store.root}` first")
        if wanted and len(wanted) < len(held):
            plan.rewrite.append((path, wanted))
        elif not wanted and (old or path.name in theirs):
            plan.remove.append(path)
        elif not wanted and _holds(held, removed):
            plan.held_back.append(path)
    return plan


def _holds(ids: Sequence[str], removed: set[str]) -> bool:
    return any(name in removed or image_of_face(name) in removed for name in ids)


def _files_with_age(store: PromptStore) -> list[tuple[Path, float]]:
    files = [
        path
        for folder in (store.root, store.shards, store.manifest)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_file() and (path.suffix == LEFTOVER or folder == store.shards)
    ]
    now = filesystem_time(store.root)
    return [(path, now - path.stat().st_mtime) for path in files]


def _size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
