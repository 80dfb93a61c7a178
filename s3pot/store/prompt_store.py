"""`PromptStore`: an open store, giving records to training and rows to evaluation and reports.

<store>/store.json      schema version, token format, identity and configuration of the chain that made it
<store>/shards/         token shards
<store>/manifest/       manifest parts

docs/store.md describes all of it for readers without this package.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from s3pot.alignment import image_of_face
from s3pot.chain import ChainConfig, chain_identity, load_sam
from s3pot.config import parse, to_mapping
from s3pot.head.records import PromptRecord
from s3pot.images import decode_image, decode_png
from s3pot.sam.promptable import PromptableSam
from s3pot.store.atomic_files import write_file
from s3pot.store.compaction import compact_parts, maintenance
from s3pot.store.errors import StoreError
from s3pot.store.keys import image_key
from s3pot.store.manifest import PROMPTED, SCHEMA_VERSION, WITHDRAWN, append_part, read_manifest
from s3pot.store.shards import read_row
from s3pot.store.token_format import TokenFormat

__all__ = [
    "PROMPTED",
    "PromptStore",
    "StoreError",
    "StoredRecords",
    "stored_parsing",
    "stored_reference",
    "stored_similarity",
    "stored_transform",
]

_DESCRIPTION = "store.json"
_DESCRIBED = {"schema_version", "identity", "tokens", "chain"}


class PromptStore:
    """A store on disk.

    Args:
        root: folder of an existing store.

    Raises:
        StoreError: if it is none, or of another schema version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        path = root / _DESCRIPTION
        if not path.is_file():
            raise StoreError(f"{root}: no store here (store.json is missing): make one with `s3pot encode`")
        try:
            self.description: dict[str, Any] = json.loads(path.read_text())
            version = self.description.get("schema_version")
        except (ValueError, AttributeError) as error:
            raise StoreError(f"{path}: damaged ({error}): encode into a new folder") from error
        if version != SCHEMA_VERSION:
            raise StoreError(f"{root}: schema version {version}, this s3pot reads {SCHEMA_VERSION}: encode again")
        missing = _DESCRIBED - set(self.description)
        if missing:
            raise StoreError(f"{path}: damaged ({', '.join(sorted(missing))} missing): encode into a new folder")

    @classmethod
    def create(cls, root: Path, chain: ChainConfig, tokens: TokenFormat | None = None) -> "PromptStore":
        """Open the store for writing, made when missing.

        Args:
            root: folder.
            chain: what makes its results.
            tokens: how embeddings are stored; None = as the store that is there does, fp16 in a new one.

        Raises:
            StoreError: if a store made by another chain or other weights, or of another token format, is there.
        """
        if not (root / _DESCRIPTION).exists():
            create_empty(root, chain_identity(chain), to_mapping(chain), tokens or "fp16")
        store = cls(root)
        store.check_continued_by(chain, tokens)
        return store

    def check_continued_by(self, chain: ChainConfig, tokens: TokenFormat | None) -> None:
        """Refuse to add what another chain made, or tokens in another format; None = as they are here.

        Raises:
            StoreError: naming the difference.
        """
        self.check_made_by(chain)
        if tokens not in (None, self.tokens):
            raise StoreError(
                f"{self.root}: keeps its tokens as {self.tokens}, not as {tokens}: encode into a new folder"
            )

    def check_made_by(self, chain: ChainConfig) -> None:
        """Refuse to mix results of different chains.

        Raises:
            StoreError: if configuration or weights differ from those that made the store.
        """
        if self.description["identity"] != chain_identity(chain):
            raise StoreError(
                f"{self.root}: made by another configuration or other weights "
                f"(identity {self.description['identity']}, now {chain_identity(chain)}): encode into a new folder, "
                "or set S3POT_WEIGHTS to the weights it was made with"
            )

    @property
    def tokens(self) -> TokenFormat:
        """How embeddings are stored; `records` and `reference_tokens` give fp16 either way."""
        form: TokenFormat = self.description["tokens"]
        return form

    @property
    def name(self) -> str:
        """Last part of its place, for runs that are named after it."""
        return self.root.name

    @property
    def shards(self) -> Path:
        """Folder of the shards."""
        return self.root / "shards"

    @property
    def manifest(self) -> Path:
        """Folder of the manifest parts."""
        return self.root / "manifest"

    @property
    def chain(self) -> ChainConfig:
        """Configuration of the chain that made the store, on whatever device is there."""
        stored = parse(ChainConfig, self.description["chain"], where=str(self.root / "store.json"))
        return replace(stored, device="auto")  # a store made on a GPU machine must open on one without

    def load_sam(self, device: str = "auto") -> PromptableSam:
        """Load the SAM whose tokens are stored here, frozen.

        Raises:
            StoreError: if weights are installed that did not make this store: they could not read its tokens.
            WeightsError: if weights are missing or do not fit.
        """
        self.check_made_by(self.chain)
        return load_sam(replace(self.chain, device=device))

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add manifest rows (of shards that are already written); rows of read images get their `key`.

        Raises:
            StoreError: if they cannot be written, the disk being full above all.
        """
        self._append([{"key": self.key_of(row.get("image_sha256"))} | row for row in rows])

    def _append(self, rows: list[dict[str, Any]]) -> None:
        append_part(self.manifest, rows)

    def key_of(self, image_sha256: str | None) -> str | None:
        """Return the key that an image of these bytes has in this store; None of unread ones."""
        return None if image_sha256 is None else image_key(image_sha256, self.description["identity"])

    def rows(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the manifest, one row per image, sorted by id.

        Raises:
            StoreError: if a part of it is damaged.
            KeyError: for an unknown column.
        """
        return read_manifest(self.manifest, columns)

    def rows_of(self, images: Collection[str]) -> list[str]:
        """Return the ids of the rows of these images, sorted: their own, and those of further faces."""
        wanted, ids = set(images), self.rows(["status"])["id"]
        if self.description["chain"].get("faces") == "all":
            return [name for name in ids if name in wanted or image_of_face(name) in wanted]
        return [name for name in ids if name in wanted]

    def withdraw(self, images: Collection[str]) -> list[str]:
        """Take images with all their faces out of the manifest, to be encoded again; returns the ids of their rows.

        What was stored of them stays on the disk until `prune`.
        """
        ids = self.rows_of(images)
        if ids:
            self._append([{"id": name, "status": WITHDRAWN} for name in ids])
        return ids

    def compact(self) -> None:
        """Make few manifest parts of many: every batch leaves one, and each costs every reader a file to open.

        Raises:
            StoreError: if another process is at it, or the disk is full: what is there is complete.
        """
        with maintenance(self.root):
            compact_parts(self.manifest)

    def records(self, ids: set[str] | None = None) -> "StoredRecords":
        """Return the records that have prompts, optionally only of some images."""
        frame = self.rows(["status", "shard", "row", "occlusion_prompts", "face_prompts"])
        frame = frame[frame["status"].isin(PROMPTED)]
        if ids is not None:
            frame = frame[frame["id"].isin(ids)]
        return StoredRecords(self.shard_file, frame.reset_index(drop=True))

    def reference_tokens(self, row: Any) -> Float[Tensor, "c h w"]:
        """Read the reference tokens of a manifest row; only in stores that keep them."""
        return read_row(self.shard_file(row.shard), "reference_tokens", int(row.row))

    def shard_file(self, shard: str) -> Path:
        """Return where a shard can be read."""
        return self.shards / shard


class StoredRecords:
    """Records by position, tokens read from the shards when asked for."""

    def __init__(self, shard_file: Callable[[str], Path], frame: pd.DataFrame) -> None:
        self._shard_file = shard_file
        self.ids: list[str] = frame["id"].tolist()
        self._places = list(zip(frame["shard"], frame["row"], strict=True))
        self._occlusion = [torch.from_numpy(np.asarray(ids, dtype=np.int64)) for ids in frame["occlusion_prompts"]]
        self._face = [torch.from_numpy(np.asarray(ids, dtype=np.int64)) for ids in frame["face_prompts"]]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def __getitem__(self, index: int) -> PromptRecord:
        """Read one record.

        Raises:
            StoreError: if its shard is missing or damaged.
        """
        if index >= len(self.ids):
            raise IndexError(index)
        shard, row = self._places[index]
        return PromptRecord(
            id=self.ids[index],
            image_tokens=read_row(self._shard_file(shard), "image_tokens", int(row)),
            occlusion_prompts=self._occlusion[index],
            face_prompts=self._face[index],
        )


def create_empty(root: Path, identity: str, chain: dict[str, Any], tokens: TokenFormat) -> PromptStore:
    """Make a store without images.

    Args:
        root: folder, made when missing.
        identity: of the chain.
        chain: its configuration, a plain mapping.
        tokens: how embeddings are stored.
    """
    content = {"schema_version": SCHEMA_VERSION, "identity": identity, "tokens": tokens, "chain": chain}
    write_file(root, _DESCRIPTION, (json.dumps(content, indent=2, default=str) + "\n").encode())
    return PromptStore(root)


def stored_parsing(row: Any) -> UInt8[np.ndarray, "h w"]:
    """Decode the parsing of a manifest row, aligned frame."""
    return decode_png(row.parsing_png, f"parsing of {row.id}")


def stored_reference(row: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Decode the reference of a manifest row, aligned frame."""
    return decode_image(row.reference_jpeg, f"reference of {row.id}")


def stored_similarity(row: Any) -> Float32[np.ndarray, " t"]:
    """Decode the similarity of a manifest row, (h*w,)."""
    return np.frombuffer(row.similarity, dtype="<f2").astype(np.float32)


def stored_transform(row: Any) -> np.ndarray:
    """Return the (2, 3) map from aligned to original pixels."""
    return np.asarray(row.to_original, dtype=np.float64).reshape(2, 3)
