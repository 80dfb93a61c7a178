"""Merging stores that were made apart, such as those of several machines or parts of a data set.

Files of a store never change, so the merged store links them where the file system can, and copies them elsewhere. A
removed image has to be pruned from every store that holds it: links keep files alive.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from s3pot.store.atomic_files import share_file
from s3pot.store.compaction import read_all_rows, write_parts
from s3pot.store.errors import StoreError
from s3pot.store.manifest import list_parts, read_part
from s3pot.store.prompt_store import PromptStore, create_empty

_MOST_NAMED = 10
_MUST_AGREE = ("identity", "tokens")


def merge(sources: Sequence[PromptStore], into: Path) -> PromptStore:
    """Make a store of all images of several; it appears whole or not at all.

    An image that several hold with the same key is taken from the first of them, one that failed in some from another.

    Args:
        sources: at least one store; nothing may be writing to them. They stay as they are.
        into: folder of the new store.

    Raises:
        StoreError: if chains or token formats differ, an image has different keys, a source is damaged, or `into`
            is there already.
    """
    if into.exists():
        raise StoreError(f"{into}: is there already: merge into a new folder")
    _check_same_kind(sources)
    chosen = _choose([(source, list_parts(source.manifest)) for source in sources])
    building = into.with_name(f".{into.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        description = sources[0].description
        target = create_empty(building, description["identity"], description["chain"], description["tokens"])
        target.shards.mkdir()
        for source, _, rows in chosen:
            for shard in sorted(set(rows["shard"].dropna())):
                share_file(source.shards / shard, target.shards / shard)
        write_parts(target.manifest, _tables(chosen), 1)
        os.rename(building, into)
    except OSError as error:
        raise StoreError(f"{into}: cannot be made: {error.strerror or error} ({error.filename})") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return PromptStore(into)


_Chosen = list[tuple[PromptStore, list[Path], pd.DataFrame]]


def _check_same_kind(sources: Sequence[PromptStore]) -> None:
    for other in sources[1:]:
        for name in _MUST_AGREE:
            ours, theirs = sources[0].description[name], other.description[name]
            if ours != theirs:
                raise StoreError(
                    f"{other.root} and {sources[0].root} do not go together: {name} {theirs} and {ours}; only stores "
                    "of the same chain, weights and token format can be merged"
                )


def _choose(sources: list[tuple[PromptStore, list[Path]]]) -> _Chosen:
    """Choose the store that each image is taken from; returns the rows that are taken, with part and position."""
    columns = ["key", "shard"]
    frames = []
    for number, (_, parts) in enumerate(sources):
        rows = read_all_rows(parts, columns)
        rows["position"] = rows.groupby("part").cumcount()
        frames.append(rows[rows["counts"]].assign(source=number))
    every = pd.concat(frames, ignore_index=True)
    every["key"] = every["key"].astype(object).where(every["key"].notna(), None)
    _check_conflicts(every, [source.root for source, _ in sources])
    # Sorting keeps the order of the stores among those that succeeded and among those that failed.
    order = every.assign(failed=every["status"] == "failed").sort_values("failed", kind="stable")
    taken = order[~order["id"].duplicated(keep="first")]
    return [(source, parts, taken[taken["source"] == number]) for number, (source, parts) in enumerate(sources)]


def _check_conflicts(rows: pd.DataFrame, roots: list[Path]) -> None:
    made = rows[rows["status"] != "failed"]
    several = made[made["id"].duplicated(keep=False)]
    # Without keys nobody knows whether it is the same image.
    conflicts = [
        (str(image_id), group)
        for image_id, group in several.groupby("id")
        if group["key"].isna().any() or group["key"].nunique() > 1
    ]
    if conflicts:
        named = ", ".join(
            f"{image_id} ({', '.join(str(roots[number]) for number in group['source'])})"
            for image_id, group in conflicts[:_MOST_NAMED]
        )
        more = f" and {len(conflicts) - _MOST_NAMED} more" if len(conflicts) > _MOST_NAMED else ""
        raise StoreError(
            f"{len(conflicts)} images have the same id and different keys, hence different image files: {named}{more}; "
            "rename the images, or prune them from all stores but one"
        )


def _tables(chosen: _Chosen) -> Iterator[pa.Table]:
    for _, parts, rows in chosen:
        for number, part in enumerate(parts):
            positions = np.sort(rows["position"][rows["part"] == number].to_numpy())
            yield read_part(part).take(pa.array(positions))
