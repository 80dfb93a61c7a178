"""Train the reweighter on a store with Ray Train: DDP over workers, gloo on CPU and nccl on GPU.

    python ray_jobs/train.py store=runs/stores/head dev_store=runs/stores/dev
    ray job submit --working-dir . -- python ray_jobs/train.py experiments/standard.yaml runs=/shared/runs

Global batch and learning rate do not depend on the number of workers. The head of the last epoch is kept: IoU on `dev`
is shown per epoch but chooses nothing, so training needs no truth. The same command again goes on after the last
checkpoint.
"""

import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, prepare_model

from ray_jobs import cluster
from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.tracking import tracked_run
from s3pot.config import to_mapping
from s3pot.embedded import save_weights
from s3pot.evaluation import evaluate_store, mean_iou
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig, ReweighterVariant
from s3pot.head.training import EpochReport, Shard, TrainingConfig, prompt_counts, train_head
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.train")
HEAD_FILE = "reweighter.safetensors"
_HISTORY, _STATE = "history.jsonl", "state.pt"


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Form of the reweighter; its width follows from the SAM.

    Attributes:
        variant: `residual` leaves the mask as it is before training; `released` is post-norm.
        num_heads: attention heads.
        num_layers: attention layers.
    """

    variant: ReweighterVariant = "residual"
    num_heads: int = 4
    num_layers: int = 1

    def build(self, embed_dim: int) -> ReweighterConfig:
        """Return the full configuration for tokens of this width."""
        return ReweighterConfig(embed_dim=embed_dim, **asdict(self))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A standard training: one head for all images.

    Attributes:
        store: store to train on, made by `encode`.
        dev_store: store with truth; occlusion IoU on it is shown per epoch and decides nothing. None = not shown.
        dev_every: epochs between evaluations on `dev_store`; the last epoch always is.
        head: form of the reweighter.
        training: optimisation; `batch_size` is global.
        objective: which objective.
        workers: DDP processes.
        use_gpu: one GPU per worker.
        name: run name; None = store name and identity hash.
        runs: folder of all runs and the MLflow database.
    """

    store: Path
    dev_store: Path | None = None
    dev_every: int = 1
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    workers: int = 1
    use_gpu: bool = False
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if self.dev_every < 1:
            raise ValueError(f"dev_every must be at least 1, got {self.dev_every}")


def train(config: TrainConfig) -> Path:
    """Train and return the run's folder, which holds `reweighter.safetensors` and `history.jsonl`.

    Raises:
        StoreError: if a store is missing or holds nothing to train on.
    """
    config = with_absolute_paths(config)
    store = PromptStore(config.store)
    records = store.records()
    name = config.name or f"{store.root.name}-{identity(config, store.description['identity'])}"
    folder = config.runs / "train" / name
    if (folder / HEAD_FILE).exists():
        _log.info("%s is trained already; change the configuration or remove the folder to train again", folder)
        return folder
    open_run(config.runs, "train", name, config)
    counts = prompt_counts([records[place] for place in range(min(len(records), 200))])
    _log.info("%d images, %s", len(records), ", ".join(f"{value:.0f} {key}" for key, value in counts.items()))
    params = to_mapping(config) | {"store_identity": store.description["identity"], "images": len(records)}
    with tracked_run("train", name, params, config.runs) as tracked:
        tracked.log_metrics(counts)
        with _progress(folder / _HISTORY, config.training.epochs):
            _fit(config, folder)
        for line in (folder / _HISTORY).read_text().splitlines():
            epoch = json.loads(line)
            tracked.log_metrics(epoch, step=int(epoch["epoch"]))
        tracked.log_artifact(folder / HEAD_FILE)
        tracked.log_artifact(folder / "config.yaml")
    _log.info("trained head: %s", folder / HEAD_FILE)
    return folder


@contextmanager
def _progress(history: Path, epochs: int) -> Iterator[None]:
    """Log every epoch as it is written to the history."""
    done = threading.Event()

    def follow() -> None:
        shown = 0
        while True:
            last = done.wait(1.0)
            lines = history.read_text().splitlines() if history.exists() else []
            for line in lines[shown:]:
                epoch = json.loads(line)
                iou = f", dev IoU {epoch['dev_iou']:.3f}" if "dev_iou" in epoch else ""
                _log.info("epoch %d/%d objective %.4f%s", epoch["epoch"] + 1, epochs, epoch["total"], iou)
            shown = len(lines)
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
    # The cluster's cores are shared among the workers, but a worker runs on one node.
    cpus = min(cluster.total("CPU") / config.workers, cluster.cpus_of_largest_node())
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"config": config, "folder": str(folder), "threads": max(1, int(cpus))},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": cpus} | ({"GPU": 1} if config.use_gpu else {}),
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=2),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    trainer.fit()


def train_worker(job: dict[str, Any]) -> None:
    """Train on one DDP worker; rank 0 evaluates, writes the history, and at the end the head."""
    config: TrainConfig = job["config"]
    folder = Path(job["folder"])
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    if not config.use_gpu:
        # Ray sets one thread per reserved CPU; what the machine has is shared among the workers instead.
        torch.set_num_threads(job["threads"])
    store = PromptStore(config.store)
    # Where Ray Train puts the head, whatever "auto" would find.
    sam = store.load_sam("cuda" if config.use_gpu else "cpu")
    torch.manual_seed(config.training.seed)
    reweighter = PromptReweighter(config.head.build(sam.embed_dim))
    resume = _restore(reweighter)
    model = prepare_model(reweighter, parallel_strategy="ddp" if workers > 1 else None)
    dev = PromptStore(config.dev_store) if config.dev_store and rank == 0 else None
    if rank == 0:
        _keep_history(folder / _HISTORY, -1 if resume is None else int(resume["epoch"]))

    def on_epoch(report: EpochReport, state: dict[str, Any]) -> None:
        metrics: dict[str, float] = asdict(report)
        last = report.epoch == config.training.epochs - 1
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = None
            if rank == 0:
                metrics |= _dev_metrics(dev, sam, reweighter, last or report.epoch % config.dev_every == 0)
                with (folder / _HISTORY).open("a") as history:
                    history.write(json.dumps(metrics) + "\n")
                torch.save(state | {"reweighter": reweighter.state_dict()}, Path(scratch) / _STATE)
                checkpoint = Checkpoint.from_directory(scratch)
            ray.train.report(metrics, checkpoint=checkpoint)
        model.train()

    train_head(
        model,
        sam,
        store.records(),
        config.training,
        config.objective,
        shard=Shard(rank=rank, workers=workers),
        resume=resume,
        on_epoch=on_epoch,
    )
    if rank == 0:
        save_head(reweighter, folder / HEAD_FILE, {"store": store.description["identity"]})


def _keep_history(history: Path, last_epoch: int) -> None:
    """Drop epochs after the checkpoint that training goes on from: they are done again."""
    lines = history.read_text().splitlines() if history.exists() else []
    kept = [line for line in lines if json.loads(line)["epoch"] <= last_epoch]
    write_text(history, "".join(f"{line}\n" for line in kept))


def save_head(reweighter: PromptReweighter, path: Path, metadata: dict[str, str]) -> None:
    """Write a reweighter with the configuration that `load_reweighter` builds it from."""
    save_weights(reweighter, path, metadata | {"reweighter": json.dumps(asdict(reweighter.config))}, half=False)


def _dev_metrics(
    dev: PromptStore | None, sam: PromptableSam, reweighter: PromptReweighter, wanted: bool
) -> dict[str, float]:
    if dev is None or not wanted:
        return {}
    reweighter.eval()
    table = evaluate_store(dev, sam, reweighter)
    return {"dev_iou": mean_iou(table)}


def _restore(reweighter: PromptReweighter) -> dict[str, Any] | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / _STATE, weights_only=True)
    reweighter.load_state_dict(state.pop("reweighter"))
    return state


SMOKE: dict[str, Any] = {"training.epochs": 2}
command = job_command(TrainConfig, train, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
