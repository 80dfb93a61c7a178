"""Images of a store whose file is another one by now, or is gone."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from s3pot.places import is_uri, read_place
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore

_THREADS = 2 * (os.cpu_count() or 1)  # most of them wait for files


def stale_ids(store: PromptStore, items: Iterable[Mapping[str, Any]]) -> list[str]:
    """Find images that are in the store, but whose file holds other bytes now.

    Reads every file whole: a moment for a thousand photographs, minutes for a million. A file that cannot be read is
    not stale (`prune --gone` removes it); one that could not be read when it was encoded, and can be now, is.

    Args:
        store: what was encoded.
        items: rows of an input manifest, with `id` and `path` (or URI).

    Returns:
        Ids in the order of the items. Once they are withdrawn (`PromptStore.withdraw`), they are missing.
    """
    stored = store.rows(["image_sha256"])
    encoded_from = dict(zip(stored["id"], stored["image_sha256"], strict=True))
    return changed_ids(encoded_from, ((str(item["id"]), str(item["path"])) for item in items))


def changed_ids(made_from: Mapping[str, str | None], items: Iterable[tuple[str, str]]) -> list[str]:
    """Find images whose file holds other bytes than their result was made from; see `stale_ids`.

    Args:
        made_from: SHA-256 of the file of each id that has a result; None = it could not be read.
        items: ids and places; those without a result are passed over.
    """
    known = [(name, place) for name, place in items if name in made_from]
    with ThreadPoolExecutor(_THREADS) as threads:
        now = threads.map(_hash_if_readable, [place for _, place in known])
        return [name for (name, _), found in zip(known, now, strict=True) if found not in (None, made_from[name])]


def gone_ids(store: PromptStore) -> list[str]:
    """Find images of a store whose file is not there any more, sorted.

    Raises:
        StoreError: if none is there: a disk that is not mounted must not empty a store.
        OSError: if a file system cannot be reached.
    """
    rows = store.rows(["path"])
    with ThreadPoolExecutor(_THREADS) as threads:
        gone = [name for name, is_gone in zip(rows["id"], threads.map(_is_gone, rows["path"]), strict=True) if is_gone]
    if gone and len(gone) == len(rows):
        raise StoreError(
            f"{store.root}: not one of its {len(rows)} image files is there, first {rows['path'].iloc[0]}: is the disk "
            "mounted? To remove all of them all the same, name them in a file: prune --ids FILE"
        )
    return gone


def _hash_if_readable(place: str) -> str | None:
    try:
        return hashlib.sha256(read_place(place)).hexdigest()
    except OSError:
        return None


def _is_gone(place: str | None) -> bool:
    if place is None:
        return False
    if not is_uri(place):
        return not Path(place).exists()
    try:
        read_place(place)
    except FileNotFoundError:
        return True
    return False
