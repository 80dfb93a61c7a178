"""The stages of encoding as pools of Ray Data actors.

    fused    ids and paths -> [read, align, parse, imagine, SAM, write] -> statuses
    split    ids and paths -> [read, align, parse, imagine] -> crops and references -> [SAM, write] -> statuses

What flows is small: ids and paths go in, statuses come out; in `split` crops, parsings and references go from one pool
to the other through the object store (0.5 MB per face of 256 px, 7.3 MB of 1024 px). Weights never do: every actor
reads them from the disk of its node.

Ray restarts an actor that died and gives its block to it again. An image may then be encoded twice, never lost: its
shard is the same file, and of two manifest rows the last written counts.
"""

import logging
import pickle
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import torch

from ray_jobs import cluster
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

if TYPE_CHECKING:
    import ray.data

STOPPED = "stopped"
"""Status of images that were not encoded because nothing can be written any more; no row of a store has it."""

_MOST_BLOCKS = 8192
"""Blocks of ids and paths that are given to Ray Data: its bookkeeping costs some kB of the driver's memory for each."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Processes that hold the same models.

    Attributes:
        batch_size: images per batch.
        actors: processes; 0 = one per GPU (or share of one), or one per two CPU cores.
        max_actors: grow up to so many while batches queue up; 0 = as many as `actors`, always.
        gpus_per_actor: share of a GPU per process; 0 = CPU.
    """

    batch_size: int = 8
    actors: int = 0
    max_actors: int = 0
    gpus_per_actor: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.actors < 0 or self.max_actors < 0:
            raise ValueError("actors and max_actors must be at least 0")
        if self.max_actors and self.max_actors < max(1, self.actors):
            raise ValueError(f"max_actors ({self.max_actors}) must be at least actors ({self.actors}), or 0")
        if not 0.0 <= self.gpus_per_actor <= 1.0:
            raise ValueError(f"gpus_per_actor must lie in [0, 1], got {self.gpus_per_actor}")

    @property
    def device(self) -> str:
        """A GPU is used when one is reserved, whatever "auto" would find on the machine."""
        return "cuda" if self.gpus_per_actor > 0 else "cpu"


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
    import ray.data

    # Importing ray.data sets its loggers to INFO: several lines for every run, none of them for the user.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A job that cannot go on says so instead of waiting for ever.
    context.execution_no_progress_timeout_s = 600
    pools = [pool for pool in (work.reference_pool, work.pool) if pool is not None]
    first = pools[0].batch_size
    sizes = [_size(pool, -(-len(items) // pool.batch_size)) for pool in pools]
    cluster.check_gpus(sum(pool.gpus_per_actor * least for pool, (least, _) in zip(pools, sizes, strict=True)))
    rows_per_block = first * max(1, -(-len(items) // (first * _MOST_BLOCKS)))
    blocks = [items.slice(start, rows_per_block) for start in range(0, len(items), rows_per_block)]
    dataset = ray.data.from_arrow(blocks)
    classes = (EncodeActor,) if work.reference_pool is None else (ReferenceActor, ContrastActor)
    cpu_actors = sum(most for pool, (_, most) in zip(pools, sizes, strict=True) if pool.device == "cpu")
    for actor, pool, (least, most) in zip(classes, pools, sizes, strict=True):
        dataset = _mapped(dataset, actor, work, pool, least, most, cpu_actors)
    yield from dataset.iter_rows()


def _size(pool: PoolConfig, batches: int) -> tuple[int, int]:
    """Return the least and the largest number of actors; never more than there are batches."""
    on_gpu = pool.gpus_per_actor > 0
    auto = int(cluster.total("GPU") / pool.gpus_per_actor) if on_gpu else int(cluster.total("CPU") // 2)
    least = max(1, min(pool.actors or auto, batches))
    return least, max(least, min(pool.max_actors or least, batches))


def _mapped(
    dataset: "ray.data.Dataset", actor: type, work: Work, pool: PoolConfig, least: int, most: int, cpu_actors: int
) -> "ray.data.Dataset":
    import ray.data

    cpus, on_gpu = cluster.total("CPU"), pool.gpus_per_actor > 0
    # Actors that reserve every CPU would leave none for what else runs on the cluster, such as this job's driver.
    reserved = 0.0 if on_gpu else max(0.0, (cpus - 1) / cpu_actors)
    return dataset.map_batches(
        actor,
        fn_constructor_kwargs={"work": work, "threads": max(1, int(cpus / max(1, cpu_actors)))},
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most, initial_size=least),
        batch_size=pool.batch_size,
        batch_format="pandas",
        num_cpus=reserved,
        num_gpus=pool.gpus_per_actor if on_gpu else None,
    )
