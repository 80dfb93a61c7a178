"""A store below a URI, such as `s3://bucket/stores/faces`: every machine keeps what it has read or written of it.

Files of a store never change and carry the hash of their bytes in their names, so that a copy is either right or known
to be wrong, and a copy of all names is a copy of the store. Writers keep their files here first and send them: shards
before the manifest part that names them. Readers bring the manifest with `rows`, and a shard when it is asked for.

One encoding, withdrawal or compaction at a time may run on a store: a URI has no locks.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from s3pot.chain import ChainConfig, chain_identity
from s3pot.config import to_mapping
from s3pot.machine_cache import cache_folder, one_at_a_time
from s3pot.places import describe_place, is_uri, join_place, list_names, read_place, remove_place, write_place
from s3pot.store.atomic_files import sha256_of_bytes, write_file
from s3pot.store.errors import StoreError
from s3pot.store.manifest import append_part, is_part, list_parts
from s3pot.store.prompt_store import PromptStore, create_empty
from s3pot.store.token_format import TokenFormat

_DESCRIPTION, _SHARDS, _MANIFEST = "store.json", "shards", "manifest"
_ATTEMPTS = 5


def open_store(place: str | Path) -> PromptStore:
    """Open a store that is there, in a folder or below a URI.

    Raises:
        StoreError: if there is none, or it cannot be reached.
    """
    return RemoteStore(str(place)) if is_uri(str(place)) else PromptStore(Path(place))


def store_exists(place: str | Path) -> bool:
    """Say whether anything is there that could be a store.

    Raises:
        OSError: if it cannot be reached.
    """
    place = str(place)
    return describe_place(join_place(place, _DESCRIPTION)) is not None if is_uri(place) else Path(place).exists()


def store_root(place: str | Path) -> Path:
    """Return the folder of a store on this machine, be it the store itself or the copies of one below a URI."""
    return cache_folder(str(place)) if is_uri(str(place)) else Path(place)


def create_store(place: str | Path, chain: ChainConfig, tokens: TokenFormat | None = None) -> PromptStore:
    """Open a store for writing, made when missing; see `PromptStore.create`.

    Raises:
        StoreError: if the store was made by another chain or keeps its tokens otherwise, or cannot be reached.
    """
    if not is_uri(str(place)):
        return PromptStore.create(Path(place), chain, tokens)
    address = join_place(str(place), _DESCRIPTION)
    try:
        if not store_exists(place):
            root = cache_folder(str(place))
            create_empty(root, chain_identity(chain), to_mapping(chain), tokens or "fp16")
            write_place(address, (root / _DESCRIPTION).read_bytes())
    except OSError as error:
        raise StoreError(f"{address}: cannot be written: {error}") from error
    store = RemoteStore(str(place))
    store.check_continued_by(chain, tokens)
    return store


class RemoteStore(PromptStore):
    """A store below a URI; `root` is the folder of this machine's copies.

    Args:
        place: URI of an existing store.

    Raises:
        StoreError: if there is none, or it cannot be reached, or is of another schema version.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        root = cache_folder(place)
        try:
            write_file(root, _DESCRIPTION, read_place(join_place(place, _DESCRIPTION)))
        except FileNotFoundError as error:
            raise StoreError(f"{place}: no store here (store.json is missing): make one with `s3pot encode`") from error
        except OSError as error:
            raise StoreError(f"{place}: cannot be read: {error}") from error
        super().__init__(root)
        self._pull_manifest()

    @property
    def name(self) -> str:
        """Last part of its place, for runs that are named after it."""
        return PurePosixPath(self.place.partition("?")[0]).name

    def rows(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the manifest as it is now; see `PromptStore.rows`."""
        self._pull_manifest()
        return super().rows(columns)

    def shard_file(self, shard: str) -> Path:
        """Return this machine's copy of a shard, fetched when there is none.

        Raises:
            StoreError: if it cannot be fetched.
        """
        path = super().shard_file(shard)
        if not path.exists():
            self._pull(_SHARDS, shard)
        return path

    def compact(self) -> None:
        """Make few manifest parts of many; new ones are sent before old ones are removed."""
        with one_at_a_time(self.manifest):
            self._follow_manifest()
            before = {part.name for part in list_parts(self.manifest)}
            super().compact()
            after = {part.name for part in list_parts(self.manifest)}
            for part in sorted(after - before):
                self._push(_MANIFEST, part)
            for part in sorted(before - after):
                remove_place(self._address(_MANIFEST, part))

    def _append(self, rows: list[dict[str, Any]]) -> None:
        # Shards first: whoever sees a row finds its tokens.
        for shard in sorted({row["shard"] for row in rows if row.get("shard")}):
            self._push(_SHARDS, shard)
        # Another process must not take the part for one that was removed from the store.
        with one_at_a_time(self.manifest):
            self._push(_MANIFEST, append_part(self.manifest, rows).name)

    def _pull_manifest(self) -> None:
        with one_at_a_time(self.manifest):
            for attempt in range(_ATTEMPTS):
                try:
                    self._follow_manifest()
                    return
                except StoreError as error:
                    # A compaction elsewhere removes parts between the listing and the reading.
                    if not isinstance(error.__cause__, FileNotFoundError) or attempt == _ATTEMPTS - 1:
                        raise

    def _follow_manifest(self) -> None:
        try:
            there = {name for name in list_names(self._address(_MANIFEST)) if is_part(name)}
        except OSError as error:
            raise StoreError(f"{self.place}: cannot be read: {error}") from error
        here = {part.name for part in list_parts(self.manifest)}
        for part in sorted(there - here):
            self._pull(_MANIFEST, part)
        for part in here - there:
            (self.manifest / part).unlink(missing_ok=True)

    def _pull(self, folder: str, name: str) -> None:
        address = self._address(folder, name)
        try:
            data = read_place(address)
        except OSError as error:
            raise StoreError(f"{address}: cannot be read: {error}") from error
        if sha256_of_bytes(data) != PurePosixPath(name).stem.rpartition("-")[2]:
            raise StoreError(f"{address}: its bytes are not those that were written; is it still being written?")
        write_file(self.root / folder, name, data)

    def _push(self, folder: str, name: str) -> None:
        address = self._address(folder, name)
        try:
            write_place(address, (self.root / folder / name).read_bytes())
        except OSError as error:
            raise StoreError(f"{address}: cannot be written: {error}") from error

    def _address(self, *names: str) -> str:
        return join_place(self.place, "/".join(names))
