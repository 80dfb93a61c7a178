"""What each DDP worker of `train` does: train, and on rank 0 evaluate, checkpoint and write the history and the heads.

A run's folder holds `history.jsonl`, one line per epoch however often an epoch was begun; `best/`, the heads of the
epochs with the lowest objective; and at the end the head itself. The state to go on from is Ray Train's checkpoint.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint
from ray.train.torch import prepare_model

from ray_jobs.run_folder import write_text
from ray_jobs.train_config import TrainConfig
from s3pot.evaluation import evaluate_store, mean_iou
from s3pot.head.epoch_report import EpochReport
from s3pot.head.global_batches import Shard
from s3pot.head.head_file import save_head
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import train_head
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore
from s3pot.store.remote_store import open_store

HEAD_FILE = "reweighter.safetensors"
HISTORY, BEST = "history.jsonl", "best"
_STATE = "state.pt"


def train_worker(job: dict[str, Any]) -> None:
    """Train on one DDP worker; rank 0 evaluates, writes the history, and at the end the head."""
    config: TrainConfig = job["config"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    if not config.use_gpu:
        # Ray sets one thread per reserved CPU; what the machine has is shared among the workers instead.
        torch.set_num_threads(job["threads"])
    store = open_store(config.store)
    # Where Ray Train puts the head, whatever "auto" would find.
    sam = store.load_sam("cuda" if config.use_gpu else "cpu")
    torch.manual_seed(config.training.seed)
    reweighter = PromptReweighter(config.head.build(sam.embed_dim))
    resume = _restore(reweighter)
    model = prepare_model(reweighter, parallel_strategy="ddp" if workers > 1 else None)
    keeper = _RunKeeper(Path(job["folder"]), config, store, sam, reweighter) if rank == 0 else None
    if keeper is not None:
        keeper.forget_after(-1 if resume is None else int(resume["epoch"]))

    def on_epoch(report: EpochReport, state: dict[str, Any]) -> None:
        metrics: dict[str, float] = asdict(report) | {"workers": workers}
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = None
            if keeper is not None:
                keeper.keep(metrics)
                torch.save(state | {"reweighter": reweighter.state_dict()}, Path(scratch) / _STATE)
                checkpoint = Checkpoint.from_directory(scratch)
            ray.train.report(metrics, checkpoint=checkpoint)

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
    if keeper is not None:
        keeper.save(HEAD_FILE, config.training.epochs - 1)


def _restore(reweighter: PromptReweighter) -> dict[str, Any] | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / _STATE, weights_only=True)
    reweighter.load_state_dict(state.pop("reweighter"))
    return state


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the epochs of a run's folder, in order; none before the first is done."""
    history = folder / HISTORY
    return [json.loads(line) for line in history.read_text().splitlines()] if history.exists() else []


@dataclass(frozen=True)
class _RunKeeper:
    """Rank 0's hand in the run's folder."""

    folder: Path
    config: TrainConfig
    store: PromptStore
    sam: PromptableSam
    reweighter: PromptReweighter

    def forget_after(self, last_epoch: int) -> None:
        """Drop epochs after the checkpoint that training goes on from: they are done again.

        A worker that dies within a moment of its report takes the checkpoint with it, not the line of the history.
        """
        self._write([epoch for epoch in read_history(self.folder) if epoch["epoch"] <= last_epoch])

    def keep(self, metrics: dict[str, float]) -> None:
        """Add IoU on dev and write the epoch into the history; keep its head if it is among the best."""
        epoch = int(metrics["epoch"])
        last = epoch == self.config.training.epochs - 1
        if self.config.dev_store is not None and (last or epoch % self.config.dev_every == 0):
            self.reweighter.eval()
            metrics["dev_iou"] = mean_iou(evaluate_store(open_store(self.config.dev_store), self.sam, self.reweighter))
        history = [*read_history(self.folder), metrics]
        self._write(history)
        best = sorted(history, key=lambda done: (done["total"], done["epoch"]))[: self.config.keep_best]
        names = {f"{BEST}/epoch-{int(done['epoch']):04d}.safetensors" for done in best}
        if (name := f"{BEST}/epoch-{epoch:04d}.safetensors") in names:
            self.save(name, epoch)
        for path in (self.folder / BEST).glob("*.safetensors"):
            if f"{BEST}/{path.name}" not in names:
                path.unlink()

    def save(self, name: str, epoch: int) -> None:
        """Write the head as it is now."""
        metadata = {"store": self.store.description["identity"], "epoch": str(epoch)}
        save_head(self.reweighter, self.folder / name, self.store.chain, metadata)

    def _write(self, history: list[dict[str, float]]) -> None:
        write_text(self.folder / HISTORY, "".join(f"{json.dumps(epoch)}\n" for epoch in history))
