"""`PromptStore`: an open store, giving records to training and rows to evaluation and reports.

<store>/store.json      schema version, identity and configuration of the chain that made it
<store>/shards/         token shards
<store>/manifest/       manifest parts
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from s3pot.chain import ChainConfig, chain_identity, load_sam
from s3pot.config import parse, to_mapping
from s3pot.head.records import PromptRecord
from s3pot.images import decode_image, decode_png
from s3pot.sam.promptable import PromptableSam
from s3pot.store.manifest import SCHEMA_VERSION, append_part, read_manifest
from s3pot.store.shards import read_row

# Statuses of images that have any prompts: one empty set is counted, not left out [design 5.1].
PROMPTED = ("ok", "no_occlusion_prompts", "no_face_prompts")


class StoreError(RuntimeError):
    """A store is missing, of another version, or made by another chain; the message says what to do."""


class PromptStore:
    """A store on disk.

    Args:
        root: folder of an existing store.

    Raises:
        StoreError: if it is none, or of another schema version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        description = root / "store.json"
        if not description.is_file():
            raise StoreError(f"{root}: no store here (store.json is missing): make one with `s3pot encode`")
        self.description: dict[str, Any] = json.loads(description.read_text())
        version = self.description.get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(f"{root}: schema version {version}, this s3pot reads {SCHEMA_VERSION}: encode again")

    @classmethod
    def create(cls, root: Path, chain: ChainConfig) -> "PromptStore":
        """Open the store for writing, made when missing.

        Raises:
            StoreError: if a store made by another chain or other weights is there.
        """
        description = root / "store.json"
        identity = chain_identity(chain)
        if not description.exists():
            root.mkdir(parents=True, exist_ok=True)
            content = {"schema_version": SCHEMA_VERSION, "identity": identity, "chain": to_mapping(chain)}
            part = root / f".store.json.{os.getpid()}.part"
            part.write_text(json.dumps(content, indent=2, default=str) + "\n")
            os.replace(part, description)
        store = cls(root)
        store.check_made_by(chain)
        return store

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
        """Add manifest rows (of shards that are already written)."""
        append_part(self.root / "manifest", rows)

    def rows(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the manifest, one row per image, sorted by id."""
        return read_manifest(self.root / "manifest", columns)

    def records(self, ids: set[str] | None = None) -> "StoredRecords":
        """Return the records that have prompts, optionally only of some images."""
        frame = self.rows(["status", "shard", "row", "occlusion_prompts", "face_prompts"])
        frame = frame[frame["status"].isin(PROMPTED)]
        if ids is not None:
            frame = frame[frame["id"].isin(ids)]
        return StoredRecords(self.root, frame.reset_index(drop=True))

    def reference_tokens(self, row: Any) -> Float[Tensor, "c h w"]:
        """Read the reference tokens of a manifest row; only in stores that keep them."""
        return read_row(self.root / "shards" / row.shard, "reference_tokens", int(row.row))


class StoredRecords:
    """Records by position, tokens read from the shards when asked for."""

    def __init__(self, root: Path, frame: pd.DataFrame) -> None:
        self._root = root
        self.ids: list[str] = frame["id"].tolist()
        self._places = list(zip(frame["shard"], frame["row"], strict=True))
        self._occlusion = [torch.from_numpy(np.asarray(ids, dtype=np.int64)) for ids in frame["occlusion_prompts"]]
        self._face = [torch.from_numpy(np.asarray(ids, dtype=np.int64)) for ids in frame["face_prompts"]]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.ids)

    def __getitem__(self, index: int) -> PromptRecord:
        """Read one record."""
        if index >= len(self.ids):
            raise IndexError(index)
        shard, row = self._places[index]
        return PromptRecord(
            id=self.ids[index],
            image_tokens=read_row(self._root / "shards" / shard, "image_tokens", int(row)),
            occlusion_prompts=self._occlusion[index],
            face_prompts=self._face[index],
        )


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
