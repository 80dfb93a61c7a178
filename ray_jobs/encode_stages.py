"""The stages of encoding as pools of Ray Data actors.

    fused    ids and paths -> [read, align, parse, imagine, SAM, write] -> statuses
    split    ids and paths -> [read, align, parse, imagine] -> crops and references -> [SAM, write] -> statuses

What flows is small: ids and paths go in, statuses come out; in `split` crops, parsings and references go from one pool
to the other through the object store (0.5 MB per face of 256 px, 7.3 MB of 1024 px).

What an actor that died was at is given to it again. An image may then be encoded twice, never lost: its shard is the
same file, and of two manifest rows the last written counts.
"""

import pickle
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch

from ray_jobs.actor_pools import PoolConfig, run_pools
from s3pot.chain import ChainConfig, load_aligner, load_prefix, load_reference_stage, load_sam
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import (
    FaceUnderWay,
    StoreWriting,
    encode_images,
    imagine_references,
    read_images,
    store_contrast,
)
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore
from s3pot.store.remote_store import open_store

STOPPED = "stopped"
"""Status of images that were not encoded because nothing can be written any more; no row of a store has it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What actors are told; small, for it is sent to each of them.

    Attributes:
        chain: models and stages.
        store: path or URI of the store.
        writing: where and how tokens are written; the folder is that of the machine an actor runs on.
        pool: the pool that writes.
        reference_pool: the pool before it that makes parsings and references; None = the same pool does.
    """

    chain: ChainConfig
    store: str | Path
    writing: StoreWriting
    pool: PoolConfig
    reference_pool: PoolConfig | None = None


def open_target(work: Work) -> tuple[PromptStore, StoreWriting]:
    """Open the store on the machine an actor runs on; returns it, and how its shards are written there."""
    store = open_store(work.store)
    return store, replace(work.writing, store=store.root)


class EncodeActor:
    """Does everything: gets ids and paths, writes shards and manifest parts, returns statuses."""

    def __init__(self, work: Work, threads: int) -> None:
        torch.set_num_threads(threads)
        chain = replace(work.chain, device=work.pool.device)
        self.work, self.back_off = work, BackOff(work.pool.batch_size)
        self.prefix, self.aligner = load_prefix(chain), load_aligner(chain)
        self.store, self.writing = open_target(work)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Encode one batch."""
        writing = self.writing

        def rows() -> list[dict[str, Any]]:
            return encode_images(
                self.prefix,
                batch.to_dict("records"),
                writing.store,
                self.aligner,
                faces=self.work.chain.faces,
                keep_reference_tokens=writing.keep_reference_tokens,
                tokens=writing.tokens,
                back_off=self.back_off,
            )

        return _statuses(batch["id"], self.store, rows)


class ReferenceActor:
    """Reads images, cuts out faces and imagines them unoccluded; returns them, those of an image in one row."""

    def __init__(self, work: Work, threads: int) -> None:
        assert work.reference_pool is not None
        torch.set_num_threads(threads)
        chain = replace(work.chain, device=work.reference_pool.device)
        self.chain, self.back_off = chain, BackOff(work.reference_pool.batch_size)
        self.stage, self.aligner = load_reference_stage(chain), load_aligner(chain)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Prepare one batch."""
        images = [
            read_images([item], self.aligner, self.stage.size, self.chain.faces) for item in batch.to_dict("records")
        ]
        imagine_references(self.stage, [face for faces in images for face in faces], self.back_off)
        return pd.DataFrame({"id": batch["id"].map(str), "faces": [pickle.dumps(faces, 5) for faces in images]})


class ContrastActor:
    """Encodes what `ReferenceActor` returns, writes shards and manifest parts, returns statuses."""

    def __init__(self, work: Work, threads: int) -> None:
        torch.set_num_threads(threads)
        self.work, self.back_off = work, BackOff(work.pool.batch_size)
        self.sam = load_sam(replace(work.chain, device=work.pool.device))
        self.store, self.writing = open_target(work)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Encode one batch."""
        faces: list[FaceUnderWay] = [face for packed in batch["faces"] for face in pickle.loads(packed)]

        def rows() -> list[dict[str, Any]]:
            return store_contrast(self.sam, self.work.chain.prefix, faces, self.writing, self.back_off)

        return _statuses(batch["id"], self.store, rows)


def _statuses(ids: pd.Series, store: PromptStore, encode: Any) -> pd.DataFrame:
    """Encode and append; returns one row per image, that of its first face: these are what is waited for."""
    names = ids.map(str).tolist()
    try:
        rows = encode()
        store.append(rows)
    except StoreError as error:  # nothing of one image: the disk is full, or the store is gone
        return pd.DataFrame({"id": names, "status": STOPPED, "error": str(error)})
    found = {row["id"]: row["status"] for row in rows}
    return pd.DataFrame({"id": names, "status": [found[name] for name in names], "error": None})


def run_stages(items: pa.Table, work: Work) -> Generator[dict[str, Any], None, None]:
    """Encode items on the cluster; yields `id`, `status` and `error` of each image as it is done.

    Args:
        items: id, path and what is carried over, all text.
        work: what to do with them.
    """
    if work.reference_pool is None:
        pools: list[tuple[type, PoolConfig]] = [(EncodeActor, work.pool)]
    else:
        pools = [(ReferenceActor, work.reference_pool), (ContrastActor, work.pool)]
    yield from run_pools(items, pools, {"work": work})
