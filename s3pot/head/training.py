"""Training of the reweighter over stored records: one plain function for one process, DDP and a single image.

Batch loss = mean over the images of the global batch of their per-image terms, whatever worker holds them [design 5.1].
With W workers every worker takes each W-th image of the global batch; one that runs short repeats an image with weight
0, so that no worker waits for another, and nothing counts twice.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from s3pot.head.objectives import ObjectiveConfig, objective_terms, sample_mask_logits
from s3pot.head.records import PromptRecord, collate, occlusion_logits
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import torch_generator

_TERMS = ("total", "recall_occlusion", "recall_face", "face_penalty", "empty_occlusion", "empty_face")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the reweighter is trained.

    Attributes:
        epochs: passes over the records; paper 50. For a single image one epoch is one step.
        batch_size: images per optimizer step over all workers together; paper 3.
        learning_rate: initial rate of the cosine decay to 0, in (0, 1); paper 1e-4.
        weight_decay: of AdamW, at least 0.
        seed: of the order of images and of the reweighter's initial weights.
    """

    epochs: int = 50
    batch_size: int = 3
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0.0 < self.learning_rate < 1.0:
            raise ValueError(f"learning_rate must lie in (0, 1), got {self.learning_rate}")
        if self.weight_decay < 0.0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Which part of every global batch this process takes.

    Attributes:
        rank: 0 .. workers - 1.
        workers: number of processes; with more than one, `torch.distributed` is initialised and the model is DDP.
    """

    rank: int = 0
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Means over all images of an epoch, over all workers.

    Attributes:
        epoch: 0-based.
        total: objective (Eq. 4).
        recall_occlusion: Eq. 1.
        recall_face: Eq. 2.
        face_penalty: Eq. 3, without lambda.
        empty_occlusion: share of images without occlusion prompts.
        empty_face: share of images without face prompts.
        learning_rate: at the last step.
        seconds: duration.
    """

    epoch: int
    total: float
    recall_occlusion: float
    recall_face: float
    face_penalty: float
    empty_occlusion: float
    empty_face: float
    learning_rate: float
    seconds: float


@runtime_checkable  # the shape checks of the tests look at arguments
class Records(Protocol):
    """Anything that gives records by position: a list, or an open store."""

    def __len__(self) -> int:
        """Return the number of records."""
        ...

    def __getitem__(self, index: int, /) -> PromptRecord:
        """Return one record."""
        ...


def train_head(
    reweighter: nn.Module,
    sam: PromptableSam,
    records: Records,
    config: TrainingConfig,
    objective: ObjectiveConfig,
    *,
    shard: Shard | None = None,
    resume: dict[str, Any] | None = None,
    on_epoch: Callable[[EpochReport, dict[str, Any]], None] | None = None,
) -> list[EpochReport]:
    """Train a reweighter in place.

    Args:
        reweighter: `PromptReweighter`, or DDP around one; the only thing that learns.
        sam: frozen, on the same device.
        records: images with prompts.
        config: optimisation.
        objective: which objective.
        shard: this process's part; None = all of it.
        resume: state of an earlier `on_epoch`, to go on after that epoch.
        on_epoch: called after every epoch with the report and a state to resume from (weights not included).

    Returns:
        One report per epoch done here.

    Raises:
        ValueError: without records.
        FloatingPointError: if the objective is not finite, naming the images.
    """
    if len(records) == 0:
        raise ValueError("no records to train on: does the store hold images with status ok?")
    shard = shard or Shard()
    sam.requires_grad_(False)
    parameters = [parameter for parameter in reweighter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    first_epoch = 0
    if resume is not None:
        optimizer.load_state_dict(copy.deepcopy(resume["optimizer"]))  # it takes the tensors themselves, not copies
        first_epoch = int(resume["epoch"]) + 1
    steps_per_epoch = math.ceil(len(records) / config.batch_size)
    reports = []
    for epoch in range(first_epoch, config.epochs):
        started = time.monotonic()
        reweighter.train()  # every epoch: `on_epoch` may have evaluated
        sums = torch.zeros(len(_TERMS), dtype=torch.float64)
        for step, batch in enumerate(_epoch_batches(len(records), epoch, config, shard)):
            rate = _cosine(config, epoch * steps_per_epoch + step, config.epochs * steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            sums += _step(reweighter, sam, optimizer, records, batch, objective, shard.workers)
        means = _sum_over_workers(sums, shard, sam.device) / len(records)
        terms = dict(zip(_TERMS, means.tolist(), strict=True))
        report = EpochReport(epoch=epoch, learning_rate=rate, seconds=time.monotonic() - started, **terms)
        reports.append(report)
        if on_epoch is not None:
            on_epoch(report, {"epoch": epoch, "optimizer": copy.deepcopy(optimizer.state_dict())})
    reweighter.eval()
    return reports


@dataclass(frozen=True)
class _Batch:
    """Positions of this worker's images; the images of the global batch; which of them count."""

    positions: list[int]
    weights: list[float]
    global_size: int


def _epoch_batches(count: int, epoch: int, config: TrainingConfig, shard: Shard) -> Iterator[_Batch]:
    order = torch.randperm(count, generator=torch_generator(config.seed, "head/order", str(epoch))).tolist()
    for first in range(0, count, config.batch_size):
        whole = order[first : first + config.batch_size]
        mine = whole[shard.rank :: shard.workers]
        missing = math.ceil(len(whole) / shard.workers) - len(mine)
        yield _Batch(mine + whole[:1] * missing, [1.0] * len(mine) + [0.0] * missing, len(whole))


def _step(
    reweighter: nn.Module,
    sam: PromptableSam,
    optimizer: torch.optim.Optimizer,
    records: Records,
    batch: _Batch,
    objective: ObjectiveConfig,
    workers: int,
) -> Tensor:
    """Take one step; returns the sums of the terms over this worker's images."""
    chosen = [records[position] for position in batch.positions]
    prompts = collate(chosen, sam.device)
    mask_logits = occlusion_logits(sam, reweighter, prompts)
    prompt_logits = sample_mask_logits(mask_logits, prompts.prompt_ids, sam.token_grid)
    terms = objective_terms(prompt_logits, prompts.polarity, prompts.prompt_valid, objective)
    weights = torch.tensor(batch.weights, device=sam.device)
    # DDP averages gradients over workers; times W it is their sum, over the size of the global batch it is the mean.
    loss = workers * (terms.total * weights).sum() / batch.global_size
    if not torch.isfinite(terms.total).all():
        values = zip(chosen, terms.total.tolist(), strict=True)
        names = ", ".join(f"{record.id} ({value})" for record, value in values if not math.isfinite(value))
        raise FloatingPointError(f"the objective is not finite for images {names}: lower the learning rate?")
    optimizer.zero_grad(set_to_none=True)
    # Images without prompts give gradients of 0, not none: DDP waits for every worker's backward.
    loss.backward()
    optimizer.step()
    stacked = torch.stack([getattr(terms, name).detach().double() for name in _TERMS])
    return (stacked * weights.double()).sum(dim=1).cpu()


def _cosine(config: TrainingConfig, step: int, steps: int) -> float:
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _sum_over_workers(sums: Tensor, shard: Shard, device: torch.device) -> Tensor:
    if shard.workers == 1:
        return sums
    shared = sums.to(device)
    torch.distributed.all_reduce(shared)
    return shared.cpu()


def prompt_counts(records: Sequence[PromptRecord]) -> dict[str, float]:
    """Return mean numbers of occlusion and face prompts, for the log."""
    count = max(1, len(records))
    return {
        "occlusion_prompts": sum(len(record.occlusion_prompts) for record in records) / count,
        "face_prompts": sum(len(record.face_prompts) for record in records) / count,
    }
