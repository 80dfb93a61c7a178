"""Per-image overfitting with Ray Tune: one small head per image of a store [S3POT 4, "Per-Image Overfitting"].

    python ray_jobs/overfit.py store=runs/stores/demo
    python ray_jobs/overfit.py store=runs/stores/demo start_from=runs/train/demo/reweighter.safetensors steps=60

Transductive: every head has seen the image it is judged on, though never its truth. The budget counts optimizer steps.
Several images share a trial and actors are reused, so that starting processes does not dominate; results per image do
not depend on the packing. Running it again does only the missing images; a failed image is a row.
"""

import logging
import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ray import tune

from ray_jobs import cluster
from ray_jobs.evaluate import MaskWriter, finish_evaluation
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import identity, open_run
from ray_jobs.tracking import tracked_run
from ray_jobs.train_config import HeadConfig
from s3pot.config import to_mapping
from s3pot.evaluation import evaluate_store, mean_iou
from s3pot.head.head_file import check_prefix, load_reweighter
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.records import PromptRecord
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import TrainingConfig, train_head
from s3pot.metrics import METRIC_COLUMNS
from s3pot.metrics.summary import FAILED
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import derive_seed
from s3pot.store.prompt_store import PROMPTED, PromptStore

_log = logging.getLogger("s3pot.overfit")
_COLUMNS = ("id", "path", "status", "error", "traceback", "kind", "face_id", "cutout_id")
_NUMBERS = (*METRIC_COLUMNS, "iou_before", "objective_before", "objective_after", "steps")


@dataclass(frozen=True, kw_only=True)
class OverfitConfig:
    """The per-image fleet.

    Attributes:
        store: store with the images.
        steps: optimizer steps per image.
        learning_rate: initial rate of the cosine decay; one image tolerates more than a data set.
        head: form of the reweighter when it starts from scratch.
        start_from: trained head to start from; None = from scratch, i.e. from the mask without reweighting.
        objective: which objective.
        images: only these ids; empty = all.
        limit: at most this many images; 0 = all.
        images_per_trial: images that share a trial.
        concurrent: trials at once; 0 = one per CPU core, or as many as fit the GPUs.
        gpus_per_trial: share of a GPU per trial; 0 = CPU.
        seed: of initial weights and order.
        name: run name; None = store name and identity hash.
        runs: folder of all runs and the MLflow database.
    """

    store: Path
    steps: int = 60
    learning_rate: float = 1e-3
    head: HeadConfig = field(default_factory=HeadConfig)
    start_from: Path | None = None
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    images: tuple[str, ...] = ()
    limit: int = 0
    images_per_trial: int = 4
    concurrent: int = 0
    gpus_per_trial: float = 0.0
    seed: int = 0
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("steps", "images_per_trial"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, got {getattr(self, key)}")
        if self.limit < 0 or self.concurrent < 0:
            raise ValueError("limit and concurrent must be at least 0")
        if not 0.0 <= self.gpus_per_trial <= 1.0:
            raise ValueError(f"gpus_per_trial must lie in [0, 1], got {self.gpus_per_trial}")
        if not 0.0 < self.learning_rate < 1.0:
            raise ValueError(f"learning_rate must lie in (0, 1), got {self.learning_rate}")


def overfit(config: OverfitConfig) -> Path:
    """Overfit every image and return the run's folder, an evaluation folder like that of `evaluate`.

    Raises:
        PartlyFailed: if images failed; all others have results.
    """
    config = with_absolute_paths(config)
    store = PromptStore(config.store)
    if config.start_from is not None:
        check_prefix(config.start_from, store.chain)
    ids = _chosen(store, config)
    name = config.name or f"{store.root.name}-{identity(config, store.description['identity'])}"
    folder = open_run(config.runs, "overfit", name, config)
    done = _read_rows(folder)
    todo = [image_id for image_id in ids if image_id not in set(done["id"])] if len(done) else ids
    _log.info("%d images, %d already done", len(ids), len(ids) - len(todo))
    params = to_mapping(config) | {"store_identity": store.description["identity"], "images": len(todo)}
    with tracked_run("overfit", name, params, config.runs) as tracked:
        started = time.monotonic()
        if todo:
            _fleet(todo, config, folder)
        table = _read_rows(folder)
        failed = table[table["status"] == FAILED]
        seconds = (time.monotonic() - started) / max(1, len(todo))
        extra = {
            "seconds_per_image": seconds,
            "iou_before": float(table["iou_before"].mean()),
            "iou_after": mean_iou(table),
        }
        finish_evaluation(table, folder, tracked, extra)
        for row in table.itertuples(index=False):
            with tracked.child(row.id, {"image": row.id, "steps": config.steps}) as child:
                numbers = ("objective_before", "objective_after", "iou_before", "iou_face_mask", "seconds")
                child.log_metrics({number: float(getattr(row, number)) for number in numbers})
    _log.info("before %.3f, after %.3f mean IoU (transductive), %s", extra["iou_before"], extra["iou_after"], folder)
    if len(failed):
        raise PartlyFailed(f"{len(failed)} of {len(table)} images failed, first: {failed['error'].iloc[0]}")
    return folder


def _chosen(store: PromptStore, config: OverfitConfig) -> list[str]:
    rows = store.rows(["status"])
    ids = rows["id"][rows["status"].isin(PROMPTED)].tolist()
    unknown = sorted(set(config.images) - set(rows["id"]))
    if unknown:
        raise FileNotFoundError(f"{store.root} holds no image {unknown[0]!r} ({len(unknown)} unknown ids in all)")
    if config.images:
        ids = [image_id for image_id in ids if image_id in set(config.images)]
    return ids[: config.limit] if config.limit else ids


def _read_rows(folder: Path) -> pd.DataFrame:
    parts = [pd.read_parquet(path) for path in sorted((folder / "parts").glob("*.parquet"))]
    if not parts:
        return pd.DataFrame(columns=[*_COLUMNS, *_NUMBERS])
    return pd.concat(parts, ignore_index=True).drop_duplicates("id", keep="last").sort_values("id", ignore_index=True)


def _fleet(todo: list[str], config: OverfitConfig, folder: Path) -> None:
    cluster.connect()
    chunks = [
        tuple(todo[first : first + config.images_per_trial]) for first in range(0, len(todo), config.images_per_trial)
    ]
    concurrent = config.concurrent or max(1, int(cluster.total("CPU")))
    on_gpu = config.gpus_per_trial > 0
    resources = {"CPU": 1.0} | ({"GPU": config.gpus_per_trial} if on_gpu else {})
    trainable = tune.with_resources(tune.with_parameters(_trial, config=config, folder=str(folder)), resources)
    tuner = tune.Tuner(
        trainable,
        param_space={"chunk": tune.grid_search(chunks)},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=None if on_gpu else min(concurrent, len(chunks)),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(name=f"tune-{int(time.time())}", storage_path=str(folder / "tune"), verbose=0),
    )
    # Results are in our own tables; Tune would warn of every trial that it finds none in its files.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    results = tuner.fit()
    for error in results.errors:
        _log.warning("a trial died: %s", str(error).strip().splitlines()[-1])


def _trial(trial: dict[str, Any], *, config: OverfitConfig, folder: str) -> None:
    """Overfit the images of one trial; a failing image is a row and does not take the others along."""
    torch.set_num_threads(1)
    rows = [overfit_image(image_id, config, Path(folder)) for image_id in trial["chunk"]]
    table = pd.DataFrame(rows)
    parts = Path(folder) / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    name = f"{derive_seed(0, 'part', '|'.join(trial['chunk'])):016x}.parquet"
    table.to_parquet(parts / f".{name}.part")
    (parts / f".{name}.part").rename(parts / name)
    tune.report({"images": len(rows), "failed": int((table["status"] == FAILED).sum())})


def overfit_image(image_id: str, config: OverfitConfig, folder: Path) -> dict[str, Any]:
    """Train a head on one image and measure before and after; never raises for a fault of the image."""
    started = time.monotonic()
    store, sam = _models(config.store, "cuda" if config.gpus_per_trial > 0 else "cpu")
    try:
        row = _overfit(image_id, store, sam, config, folder)
    except (ValueError, OSError, RuntimeError, KeyError, FloatingPointError) as error:
        row = {"id": image_id, "status": FAILED, "error": str(error), "traceback": traceback.format_exc()}
    # The same columns for every outcome, so that a table of failures reads like any other.
    return dict.fromkeys(_COLUMNS) | dict.fromkeys(_NUMBERS, math.nan) | row | {"seconds": time.monotonic() - started}


@lru_cache(maxsize=1)
def _models(store_root: Path, device: str) -> tuple[PromptStore, PromptableSam]:
    # Kept in the actor, which serves many trials.
    store = PromptStore(store_root)
    return store, store.load_sam(device)


def _overfit(
    image_id: str, store: PromptStore, sam: PromptableSam, config: OverfitConfig, folder: Path
) -> dict[str, Any]:
    records = store.records({image_id})
    if len(records) == 0:
        raise KeyError(f"{store.root} holds no prompts of image {image_id!r}")
    record: Sequence[PromptRecord] = [records[0]]
    seed = derive_seed(config.seed, "overfit", image_id)
    before = evaluate_store(store, sam, _fresh_head(config, sam, seed).eval(), ids=[image_id])
    reweighter = _fresh_head(config, sam, seed)
    training = TrainingConfig(epochs=config.steps, batch_size=1, learning_rate=config.learning_rate, seed=config.seed)
    reports = train_head(reweighter, sam, record, training, config.objective)
    after = evaluate_store(store, sam, reweighter, ids=[image_id], on_mask=MaskWriter(folder))
    return after.iloc[0].to_dict() | {
        "iou_before": mean_iou(before),
        "objective_before": reports[0].total,
        "objective_after": reports[-1].total,
        "steps": config.steps,
    }


def _fresh_head(config: OverfitConfig, sam: PromptableSam, seed: int) -> PromptReweighter:
    if config.start_from is not None:
        return load_reweighter(config.start_from, sam.device).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**31)
        return PromptReweighter(config.head.build(sam.embed_dim)).to(sam.device)


SMOKE: dict[str, Any] = {"steps": 3, "limit": 2, "images_per_trial": 1}
command = job_command(OverfitConfig, overfit, SMOKE, __doc__ or "")

if __name__ == "__main__":
    # Trials are pickled by reference, and a worker's __main__ is not this file: run the module under its own name.
    from ray_jobs import overfit as job

    run_alone(job.command)
