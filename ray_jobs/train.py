"""Train the reweighter on a store with Ray Train: DDP over workers, gloo on CPU and nccl on GPU.

    python ray_jobs/train.py store=runs/stores/head dev_store=runs/stores/dev
    ray job submit --working-dir . -- python ray_jobs/train.py experiments/standard.yaml runs=/shared/runs

Global batch and learning rate do not depend on the number of workers. The head of the last epoch is kept: IoU on `dev`
is shown per epoch but chooses nothing, so training needs no truth. Lost workers are replaced and training goes on after
the last epoch, by itself; so does the same command again, with any number of workers.
"""

import json
import logging
import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

from ray_jobs import cluster
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.tracking import TrackedRun, tracked_run
from ray_jobs.train_config import TrainConfig
from ray_jobs.train_worker import HEAD_FILE, read_history, train_worker
from s3pot.config import ConfigError, to_mapping
from s3pot.head.training import prompt_counts
from s3pot.store.remote_store import open_store

_log = logging.getLogger("s3pot.train")
_INPUTS, _CHECKPOINTS = "inputs.json", "ray"


def train(config: TrainConfig) -> Path:
    """Train and return the run's folder, which holds `reweighter.safetensors` and `history.jsonl`.

    Raises:
        StoreError: if a store is missing or holds nothing to train on.
        ConfigError: if the folder of this name holds another training.
        PartlyFailed: if training stopped before its last epoch.
    """
    config = with_absolute_paths(config)
    store = open_store(config.store)
    records = store.records()
    images = sha256("\n".join(records.ids).encode()).hexdigest()[:16]
    hashed = identity(config.what_is_trained(), store.description["identity"], images)
    folder = config.runs / "train" / (config.name or f"{store.name}-{hashed}")
    inputs = {"training": hashed, "store_identity": store.description["identity"], "images": len(records)}
    _refuse_another_training(folder, inputs)
    if (folder / HEAD_FILE).exists():
        _log.info("%s is trained already; change the configuration or remove the folder to train again", folder)
        return folder
    open_run(config.runs, "train", folder.name, config)
    write_text(folder / _INPUTS, json.dumps(inputs | {"images_hash": images}, indent=2) + "\n")
    counts = prompt_counts([records[place] for place in range(min(len(records), 200))])
    _log.info("%d images, %s", len(records), ", ".join(f"{value:.0f} {key}" for key, value in counts.items()))
    with tracked_run("train", folder.name, to_mapping(config) | inputs, config.runs) as tracked:
        tracked.log_metrics(counts)
        with _progress(folder, config.training.epochs, tracked):
            _fit(config, folder)
        tracked.log_artifact(folder / HEAD_FILE)
        tracked.log_artifact(folder / "config.yaml")
    _log.info("trained head: %s", folder / HEAD_FILE)
    return folder


def _refuse_another_training(folder: Path, inputs: dict[str, Any]) -> None:
    # Ray Train goes on from whatever checkpoint lies in a folder of this name.
    known = folder / _INPUTS
    if known.exists() and json.loads(known.read_text())["training"] != inputs["training"]:
        problem = "holds a training of another configuration or of other images: choose another name=, or remove it"
        raise ConfigError(str(folder), [problem])


@contextmanager
def _progress(folder: Path, epochs: int, tracked: TrackedRun) -> Iterator[None]:
    """Log every epoch as it is written to the history; in the block nothing else may log to the run."""
    done = threading.Event()

    def follow() -> None:
        shown = 0
        while True:
            last = done.wait(1.0)
            history = read_history(folder)
            for epoch in history[shown:]:
                tracked.log_metrics(epoch, step=int(epoch["epoch"]))
                iou = f", dev IoU {epoch['dev_iou']:.3f}" if "dev_iou" in epoch else ""
                speed = f"{epoch['images_per_second']:.1f} images/s, {epoch['data_wait']:.0%} waiting for data"
                _log.info("epoch %d/%d objective %.4f%s, %s", epoch["epoch"] + 1, epochs, epoch["total"], iou, speed)
            shown = len(history)
            if last:
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _fit(config: TrainConfig, folder: Path) -> None:
    cluster.connect()
    cluster.check_gpus(float(config.min_workers or config.workers) if config.use_gpu else 0.0)
    cpus = config.cpus_per_worker or _share_of_cpus(config.workers)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "folder": str(folder), "threads": max(1, int(cpus))},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.workers if config.min_workers is None else (config.min_workers, config.workers),
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": cpus} | ({"GPU": 1} if config.use_gpu else {}),
        ),
        run_config=RunConfig(
            name=_CHECKPOINTS,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=config.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        result = trainer.fit()
    except WorkerGroupError as error:
        rank, cause = min(error.worker_failures.items())
        reason = str(cause).strip().splitlines()[-1]
        raise PartlyFailed(
            f"training stopped on worker {rank}: {reason}; the same command goes on after the last epoch that was done"
        ) from error
    # A checkpoint that was reported a moment before a crash is forgotten by Ray Train, its folder stays.
    for path in (folder / _CHECKPOINTS).glob("checkpoint_*/"):
        if result.checkpoint is not None and path.name != Path(result.checkpoint.path).name:
            shutil.rmtree(path)


def _share_of_cpus(workers: int) -> float:
    """Share the cluster's CPUs among workers, each of which runs on one node; whole ones, where there are enough."""
    share = min(cluster.total("CPU") / workers, cluster.cpus_of_largest_node())
    return float(math.floor(share)) if share >= 1.0 else math.floor(share * 100) / 100


SMOKE: dict[str, Any] = {"training.epochs": 2}
command = job_command(TrainConfig, train, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
