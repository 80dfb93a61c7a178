"""Encode a folder of images or a manifest into a store: Ray Data shards the images over actors that hold the models.

    python ray_jobs/encode.py input=photos store=runs/stores/photos
    python ray_jobs/encode.py input=composites/manifest.parquet store=runs/stores/dev chain.alignment=none
    python ray_jobs/encode.py input=photos store=runs/stores/all chain.faces=all       (a row for every face)

Running it again does only what is missing. An unreadable image becomes a row with its error and loses nothing else.
"""

import logging
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ray_jobs import cluster
from ray_jobs.job_cli import PartlyFailed, absolute, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import open_run
from ray_jobs.tracking import tracked_run
from s3pot.alignment import image_of_face
from s3pot.chain import ChainConfig, load_aligner, load_prefix
from s3pot.config import ConfigError, to_mapping
from s3pot.images import list_images
from s3pot.landmark_file import LandmarkFile
from s3pot.store.encoding import encode_images
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.encode")


class ManifestError(ConfigError):
    """An input manifest cannot be used; the message names it and what is wrong."""

    def __init__(self, source: Path, problem: str) -> None:
        super().__init__(str(source), [problem])


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What is encoded, by which chain, on what.

    Attributes:
        input: folder of images, or a Parquet or CSV manifest with columns `id` and `path` (and truth, when known).
        store: folder of the store; an existing one made by the same chain is added to.
        chain: models and frozen stages.
        keep_reference_tokens: store reference tokens too, for ablations of selectors; doubles the size.
        batch_size: images per batch and shard.
        actors: model-holding processes; 0 = one per GPU, or one per two CPU cores.
        gpus_per_actor: share of a GPU per actor; 0 = CPU.
        limit: encode at most this many images; 0 = all.
        runs: folder of run records and the MLflow database.
    """

    input: Path
    store: Path
    chain: ChainConfig = field(default_factory=ChainConfig)
    keep_reference_tokens: bool = False
    batch_size: int = 8
    actors: int = 0
    gpus_per_actor: float = 0.0
    limit: int = 0
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.actors < 0 or self.limit < 0:
            raise ValueError("actors and limit must be at least 0")
        if not 0.0 <= self.gpus_per_actor <= 1.0:
            raise ValueError(f"gpus_per_actor must lie in [0, 1], got {self.gpus_per_actor}")


def encode(config: EncodeConfig) -> PromptStore:
    """Encode what is missing; returns the store.

    Raises:
        PartlyFailed: if images failed; all others are in the store.
        ConfigError: if the input or the landmark file cannot be used.
    """
    config = with_absolute_paths(config)
    items = read_items(config.input, config.limit)
    _check_ids(items, config)
    store = PromptStore.create(config.store, config.chain)
    # The first face of an image has the image's id, and all faces of an image are written at once.
    done = set(store.rows(["status"])["id"])
    todo = [item for item in items if item["id"] not in done]
    _log.info("%d images, %d already in %s", len(items), len(items) - len(todo), store.root)
    params = to_mapping(config) | {"identity": store.description["identity"], "images": len(todo)}
    with tracked_run("encode", store.root.name, params, config.runs) as tracked:
        open_run(config.runs, "encode", store.root.name, config)
        started = time.monotonic()
        if todo:
            _run(todo, store, config)
        rows = store.rows(["status", "error"])
        images = rows["id"] if config.chain.faces == "main" else rows["id"].map(image_of_face)
        rows = rows[images.isin({item["id"] for item in items})]
        counts = {f"status_{status}": count for status, count in rows["status"].value_counts().items()}
        seconds = time.monotonic() - started
        tracked.log_metrics(counts | {"seconds": seconds, "images_per_second": len(todo) / max(seconds, 1e-9)})
    failed = rows[rows["status"] == "failed"]
    _log.info("store %s: %s", store.root, ", ".join(f"{count} {name[7:]}" for name, count in counts.items()))
    if len(failed):
        what = "images" if config.chain.faces == "main" else "faces"
        raise PartlyFailed(f"{len(failed)} of {len(rows)} {what} failed, first: {failed['error'].iloc[0]}")
    return store


def read_items(source: Path, limit: int = 0) -> list[dict[str, Any]]:
    """List what to encode.

    Raises:
        FileNotFoundError: if the input is neither folder nor manifest, or names no images.
        ManifestError: if a manifest lacks a column, or has an id twice or one that is a path out of its folder.
    """
    if source.is_dir():
        paths = list_images(source, recursive=True)
        items = [{"id": str(path.relative_to(source)), "path": str(absolute(path))} for path in paths]
    elif source.suffix in {".parquet", ".csv"} and source.is_file():
        frame = pd.read_parquet(source) if source.suffix == ".parquet" else pd.read_csv(source, dtype={"id": str})
        missing = {"id", "path"} - set(frame.columns)
        if missing:
            raise ManifestError(source, f"the manifest lacks the columns {', '.join(sorted(missing))}")
        items = frame.astype(object).where(frame.notna(), None).to_dict("records")
        # Relative paths are meant from the manifest's folder, wherever the job or its workers run.
        items = [
            item | {"id": str(item["id"]), "path": str(absolute(source.parent / str(item["path"])))} for item in items
        ]
        outside = [item["id"] for item in items if _leads_out(Path(item["id"]))]
        if outside:
            raise ManifestError(source, f"the id {outside[0]!r} leads out of the folders that results are written to")
        twice = frame["id"][frame["id"].duplicated()]
        if len(twice):
            raise ManifestError(source, f"the id {twice.iloc[0]!r} stands there more than once")
    else:
        raise FileNotFoundError(f"input={source}: neither a folder of images nor a .parquet or .csv manifest")
    return items[:limit] if limit else items


def _check_ids(items: list[dict[str, Any]], config: EncodeConfig) -> None:
    """Refuse ids that faces would take, and landmarks of other images, before anything starts."""
    ids = [item["id"] for item in items]
    if config.chain.faces == "all":
        taken = [image_id for image_id in ids if image_of_face(image_id) != image_id]
        if taken:
            problem = f"the id {taken[0]!r} ends like that of a further face (<id>#2): rename the image, or faces=main"
            raise ManifestError(config.input, problem)
    if config.chain.landmarks is not None:
        known = LandmarkFile(config.chain.landmarks).ids
        without = len(set(ids) - set(known))
        if without == len(set(ids)):
            raise ManifestError(
                config.chain.landmarks,
                f"has no row for any image of {config.input}: its ids look like {known[0]!r}, those of the images like "
                f"{ids[0]!r}",
            )
        _log.info("%d of %d images have no row in %s", without, len(ids), config.chain.landmarks)


def _leads_out(name: Path) -> bool:
    return name.is_absolute() or ".." in name.parts


class EncodeActor:
    """Holds the models of one device; gets ids and paths, writes shards and manifest parts, returns statuses."""

    def __init__(self, config: EncodeConfig, threads: int) -> None:
        torch.set_num_threads(threads)
        self.config = config
        # A GPU is used when one is reserved, whatever "auto" would find on the machine.
        device = "cuda" if config.gpus_per_actor > 0 else "cpu"
        chain = replace(config.chain, device=device)
        self.prefix, self.aligner = load_prefix(chain), load_aligner(chain)
        self.store = PromptStore(config.store)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Encode one batch."""
        rows = encode_images(
            self.prefix,
            batch.to_dict("records"),
            self.store.root,
            self.aligner,
            faces=self.config.chain.faces,
            keep_reference_tokens=self.config.keep_reference_tokens,
        )
        self.store.append(rows)
        # One row per image comes back, that of its first face: these are what is waited for.
        asked = set(batch["id"].map(str))
        statuses = {row["id"]: row["status"] for row in rows if row["id"] in asked}
        return pd.DataFrame({"id": list(statuses), "status": list(statuses.values())})


def _run(todo: list[dict[str, Any]], store: PromptStore, config: EncodeConfig) -> None:
    import ray

    cluster.connect()
    # Importing ray.data sets its loggers to INFO: several lines for every run, none of them for the user.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A job that cannot go on says so instead of waiting for ever.
    context.execution_no_progress_timeout_s = 600
    cpus, on_gpu = cluster.total("CPU"), config.gpus_per_actor > 0
    auto = int(cluster.total("GPU") / config.gpus_per_actor) if on_gpu else int(cpus // 2)
    batches = -(-len(todo) // config.batch_size)
    actors = max(1, min(config.actors or auto, batches))
    # Ray Data reads with tasks of one CPU each: actors that reserve all of them wait for ever for their first batch.
    reserved = 0.0 if on_gpu else max(0.0, (cpus - 1) / actors)
    columns = sorted({key for item in todo for key in item})
    items = [{key: item.get(key) for key in columns} for item in todo]
    dataset = ray.data.from_items(items, override_num_blocks=batches).map_batches(
        EncodeActor,
        fn_constructor_kwargs={"config": config, "threads": max(1, int(cpus / actors))},
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=config.batch_size,
        batch_format="pandas",
        num_cpus=reserved,
        num_gpus=config.gpus_per_actor if on_gpu else None,
    )
    # The clock starts with the first result: loading models says nothing about the pace.
    started, shown, finished, failed = math.nan, 0.0, 0, 0
    for row in dataset.iter_rows():
        finished += 1
        failed += row["status"] == "failed"
        now = time.monotonic()
        if finished == 1:
            started = shown = now
        if now - shown > 5 or finished == len(todo):
            pace = (finished - 1) / max(now - started, 1e-3)
            left = (len(todo) - finished) / max(pace, 1e-3)
            _log.info("%d/%d images, %d failed, %.1f/s, %.0f s left", finished, len(todo), failed, pace, left)
            shown = now


SMOKE: dict[str, Any] = {"limit": 4, "batch_size": 2}
command = job_command(EncodeConfig, encode, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
