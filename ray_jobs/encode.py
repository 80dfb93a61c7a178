"""Encode images into a store: Ray Data shards them over actors that hold the models.

    python ray_jobs/encode.py input=photos store=runs/stores/photos
    python ray_jobs/encode.py input=composites/manifest.parquet store=runs/stores/dev chain.alignment=none
    python ray_jobs/encode.py input='photos/**/*.jpg' store=runs/stores/all chain.faces=all     (a row for every face)
    python ray_jobs/encode.py input=s3://bucket/photos store=s3://bucket/stores/photos

Running it again does only what is missing, and again what has changed. An unreadable image becomes a row with its error
and loses nothing else. --dry-run tries 20 images and says how much there is, and how long it takes.
"""

import logging
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from ray_jobs import cluster
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode_inputs import (
    Inputs,
    as_table,
    check_ids,
    forget_listing,
    keep_listing,
    take_inputs,
)
from ray_jobs.encode_plan import plan_encoding
from ray_jobs.encode_stages import STOPPED, Work, run_stages
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.progress import Progress
from ray_jobs.run_folder import open_run
from ray_jobs.tracking import tracked_run
from s3pot.alignment import image_of_face
from s3pot.chain import ChainConfig
from s3pot.config import to_mapping
from s3pot.places import Place
from s3pot.store.encoding import StoreWriting
from s3pot.store.errors import StoreError
from s3pot.store.manifest import list_parts
from s3pot.store.prompt_store import PromptStore
from s3pot.store.remote_store import create_store, store_root
from s3pot.store.stale_images import stale_ids
from s3pot.store.token_format import TokenFormat

_log = logging.getLogger("s3pot.encode")
_MOST_PARTS = 256


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What is encoded, by which chain, on what.

    Attributes:
        input: folder of images, glob, or Parquet or CSV manifest with columns `id` and `path` (and truth, when known);
            a path, or a URI that pyarrow or fsspec knows.
        store: folder of the store, or a URI: every machine then keeps a copy of what it writes. An existing store
            made by the same chain is added to.
        chain: models and frozen stages.
        tokens: fp16, or int8 for half the size; none = as the store that is there, fp16 in a new one.
        keep_reference_tokens: store reference tokens too, for ablations of selectors; doubles the size.
        stages: `fused` = every actor does everything; `split` = parsing and reference in a pool of their own.
        batch_size: images per batch and shard.
        actors: model-holding processes; 0 = one per GPU, or one per two CPU cores.
        max_actors: grow up to so many while batches queue up; 0 = as many as `actors`, always.
        gpus_per_actor: share of a GPU per actor; 0 = CPU.
        reference_pool: the pool of parsing and reference, for stages=split alone.
        limit: encode at most this many images; 0 = all.
        check_changed: read the files of images that are in the store, and encode those that hold other bytes again;
            reads every local file once, which takes minutes for a million.
        retry_failed: encode images again that failed before.
        runs: folder of run records and the MLflow database.
    """

    input: Place
    store: Place
    chain: ChainConfig = field(default_factory=ChainConfig)
    tokens: TokenFormat | None = None
    keep_reference_tokens: bool = False
    stages: Literal["fused", "split"] = "fused"
    batch_size: int = 8
    actors: int = 0
    max_actors: int = 0
    gpus_per_actor: float = 0.0
    reference_pool: PoolConfig = field(default_factory=PoolConfig)
    limit: int = 0
    check_changed: bool = True
    retry_failed: bool = False
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges; a Path is as good as text."""
        object.__setattr__(self, "input", Place(self.input))
        if self.limit < 0:
            raise ValueError("limit must be at least 0")
        if self.stages == "fused" and self.reference_pool != PoolConfig():
            raise ValueError("reference_pool is for stages=split: with stages=fused there is one pool")
        self.pool  # noqa: B018  its ranges are checked there

    @property
    def pool(self) -> PoolConfig:
        """The pool that writes shards."""
        return PoolConfig(
            batch_size=self.batch_size,
            actors=self.actors,
            max_actors=self.max_actors,
            gpus_per_actor=self.gpus_per_actor,
        )


def encode(config: EncodeConfig) -> PromptStore:
    """Encode what is missing; returns the store.

    Raises:
        PartlyFailed: if images failed; all others are in the store.
        ConfigError: if the input or the landmark file cannot be used.
        StoreError: if the store was made by another chain, or nothing more can be written to it.
    """
    config = with_absolute_paths(config)
    inputs = take_inputs(config.input, config.limit, store_root(config.store))
    check_ids(inputs.items["id"].map(str), config.chain, config.input)
    store = create_store(config.store, config.chain, config.tokens)
    keep_listing(inputs, store.root)
    todo = _missing(inputs, store, config)
    _log.info("%d images, %d already in %s", len(inputs.items), len(inputs.items) - len(todo), store.root)
    params = to_mapping(config) | {"identity": store.description["identity"], "images": len(todo)}
    with tracked_run("encode", store.name, params, config.runs) as tracked:
        open_run(config.runs, "encode", store.name, config)
        started = time.monotonic()
        if len(todo):
            _run(todo, store, config)
        forget_listing(store.root)
        _merge_parts(store)
        rows = store.rows(["status", "error"])
        images = rows["id"] if config.chain.faces == "main" else rows["id"].map(image_of_face)
        rows = rows[images.isin(inputs.items["id"].map(str))]
        counts = {f"status_{status}": count for status, count in rows["status"].value_counts().items()}
        seconds = time.monotonic() - started
        tracked.log_metrics(counts | {"seconds": seconds, "images_per_second": len(todo) / max(seconds, 1e-9)})
    failed = rows[rows["status"] == "failed"]
    _log.info("store %s: %s", store.root, ", ".join(f"{count} {name[7:]}" for name, count in counts.items()))
    if len(failed):
        what = "images" if config.chain.faces == "main" else "faces"
        raise PartlyFailed(f"{len(failed)} of {len(rows)} {what} failed, first: {failed['error'].iloc[0]}")
    return store


def _missing(inputs: Inputs, store: PromptStore, config: EncodeConfig) -> pd.DataFrame:
    """Return the items that are not in the store; what changed, and failed if so asked, is taken out of it first."""
    again: set[str] = set()
    # A run that is taken up goes on where it was; the run after looks for changes.
    if config.check_changed and not inputs.resumed:
        known = zip(inputs.items["id"].map(str), inputs.items["path"], strict=True)
        again |= set(stale_ids(store, ({"id": name, "path": path} for name, path in known)))
        if again:
            _log.info("%d images changed since they were encoded", len(again))
    rows = store.rows(["status"])
    if config.retry_failed:
        failed = rows["id"][rows["status"] == "failed"]
        again |= set(failed if config.chain.faces == "main" else failed.map(image_of_face))
    again &= set(inputs.items["id"].map(str))
    # The first face of an image has the image's id, and all faces of an image are written at once.
    withdrawn = store.withdraw(again) if again else []
    done = rows["id"][~rows["id"].isin(withdrawn)]
    return inputs.items[~inputs.items["id"].map(str).isin(done)]


def _run(todo: pd.DataFrame, store: PromptStore, config: EncodeConfig) -> None:
    cluster.connect()
    writing = StoreWriting(
        store=store.root,
        tokens=store.tokens,
        keep_reference_tokens=config.keep_reference_tokens,
        per_shard=config.batch_size,
    )
    reference_pool = config.reference_pool if config.stages == "split" else None
    work = Work(
        chain=config.chain, store=config.store, writing=writing, pool=config.pool, reference_pool=reference_pool
    )
    progress = Progress(len(todo), "images", _log)
    # Closed at once when it is left half-way: its actors would go on holding their share of the cluster.
    with closing(progress), closing(run_stages(as_table(todo), work)) as results:
        for row in results:
            if row["status"] == STOPPED:
                raise StoreError(row["error"])
            progress.add(failed=row["status"] == "failed")


def _merge_parts(store: PromptStore) -> None:
    if len(list_parts(store.manifest)) <= _MOST_PARTS:
        return
    try:
        store.compact()
    except StoreError as error:
        _log.warning("manifest parts are not merged: %s", error)


SMOKE: dict[str, Any] = {"limit": 4, "batch_size": 2}
command = job_command(EncodeConfig, encode, SMOKE, __doc__ or "", plan=plan_encoding)

if __name__ == "__main__":
    run_alone(command)
