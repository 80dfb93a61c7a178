"""Training of the reweighter over stored records: one plain function for one process, DDP and a single image.

Batch loss = mean over the images of the global batch of their per-image terms, whatever worker holds them and however
many parts the batch is processed in [design 5.1]. Learning rate and batch size are those of the global batch. Nothing
draws from a global random generator: the order of images follows from seed and epoch, so that a state of weights,
optimizer and epoch is all that a resumed training needs.
"""

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from s3pot.head.epoch_report import TERMS, EpochMeter, EpochReport
from s3pot.head.global_batches import Shard, WorkerBatch, epoch_batches
from s3pot.head.objectives import ObjectiveConfig, ObjectiveTerms, objective_terms, sample_mask_logits
from s3pot.head.records import PromptBatch, PromptRecord, collate, occlusion_logits
from s3pot.sam.promptable import Precision, PromptableSam


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the reweighter is trained.

    Attributes:
        epochs: passes over the records; paper 50. For a single image one epoch is one step.
        batch_size: images per optimizer step over all workers together; paper 3.
        learning_rate: initial rate of the cosine decay to 0, in (0, 1), whatever the number of workers; paper 1e-4.
        weight_decay: of AdamW, at least 0.
        accumulate: parts that every worker processes its share of a batch in, to save memory; the batch and what is
            learned stay the same. At most `batch_size`.
        precision: that head and decoder compute in; weights, loss and optimizer stay in fp32. bf16 is for devices that
            compute in it: on most CPUs it is slower.
        seed: of the order of images and of the reweighter's initial weights.
    """

    epochs: int = 50
    batch_size: int = 3
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    accumulate: int = 1
    precision: Precision = "fp32"
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
        if not 1 <= self.accumulate <= self.batch_size:
            raise ValueError(f"accumulate must lie in [1, batch_size = {self.batch_size}], got {self.accumulate}")


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
    worker = _Worker(reweighter, sam, records, objective, config.precision, shard.workers)
    reports = []
    for epoch in range(first_epoch, config.epochs):
        meter = EpochMeter(sam.device)
        reweighter.train()  # every epoch: `on_epoch` may have evaluated
        batches = epoch_batches(
            len(records),
            epoch,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            seed=config.seed,
            shard=shard,
        )
        for step, batch in enumerate(batches):
            done, total = epoch * steps_per_epoch + step, config.epochs * steps_per_epoch
            rate = cosine_rate(config.learning_rate, done, total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            worker.step(batch, optimizer, meter)
        report = meter.report(epoch, rate, len(records), shard.workers)
        reports.append(report)
        if on_epoch is not None:
            on_epoch(report, {"epoch": epoch, "optimizer": copy.deepcopy(optimizer.state_dict())})
    reweighter.eval()
    return reports


@dataclass(frozen=True)
class _Worker:
    """What stays the same from step to step."""

    reweighter: nn.Module
    sam: PromptableSam
    records: Records
    objective: ObjectiveConfig
    precision: Precision
    workers: int

    def step(self, batch: WorkerBatch, optimizer: torch.optim.Optimizer, meter: EpochMeter) -> None:
        """Take one optimizer step; the terms of this worker's images go to the meter."""
        optimizer.zero_grad(set_to_none=True)
        for number, part in enumerate(batch.parts, start=1):
            with meter.waiting():
                chosen = [self.records[position] for position in part.positions]
                prompts = collate(chosen, self.sam.device)
            # Gradients travel once per step, with the last part.
            with nullcontext() if number == len(batch.parts) else _without_sync(self.reweighter):
                terms = batch_terms(self.sam, self.reweighter, prompts, self.objective, self.precision)
                _check_finite(terms, chosen)
                weights = torch.tensor(part.weights, device=self.sam.device)
                # DDP averages gradients over workers; times W it is their sum, over the global batch it is the mean.
                loss = self.workers * (terms.total * weights).sum() / batch.global_size
                # Images without prompts give gradients of 0, not none: DDP waits for every worker's backward.
                loss.backward()
            meter.add(_sums(terms, weights))
        optimizer.step()


def batch_terms(
    sam: PromptableSam,
    reweighter: nn.Module,
    prompts: PromptBatch,
    objective: ObjectiveConfig,
    precision: Precision = "fp32",
) -> ObjectiveTerms:
    """Reweight, decode and compute the objective of every image of a batch [S3POT 3.3].

    Args:
        sam: frozen, on the device of the prompts.
        reweighter: maps prompt embeddings (B, N, C) and their validity (B, N) to reweighted embeddings.
        prompts: the batch.
        objective: which objective.
        precision: that head and decoder compute in.
    """
    with torch.autocast(sam.device.type, torch.bfloat16, enabled=precision == "bf16"):
        mask_logits = occlusion_logits(sam, reweighter, prompts)
    prompt_logits = sample_mask_logits(mask_logits.float(), prompts.prompt_ids, sam.token_grid)
    return objective_terms(prompt_logits, prompts.polarity, prompts.prompt_valid, objective)


def _without_sync(model: nn.Module) -> AbstractContextManager[None]:
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def _check_finite(terms: ObjectiveTerms, chosen: Sequence[PromptRecord]) -> None:
    if torch.isfinite(terms.total).all():
        return
    values = zip(chosen, terms.total.tolist(), strict=True)
    names = ", ".join(f"{record.id} ({value})" for record, value in values if not math.isfinite(value))
    raise FloatingPointError(f"the objective is not finite for images {names}: lower the learning rate?")


def _sums(terms: ObjectiveTerms, weights: Tensor) -> Tensor:
    stacked = torch.stack([getattr(terms, name).detach().double() for name in TERMS])
    return (stacked * weights.double()).sum(dim=1)


def cosine_rate(initial: float, step: int, steps: int) -> float:
    """Return the learning rate of a step, 0-based: a cosine from `initial` to 0 over all steps."""
    return initial * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def prompt_counts(records: Sequence[PromptRecord]) -> dict[str, float]:
    """Return mean numbers of occlusion and face prompts, for the log."""
    count = max(1, len(records))
    return {
        "occlusion_prompts": sum(len(record.occlusion_prompts) for record in records) / count,
        "face_prompts": sum(len(record.face_prompts) for record in records) / count,
    }
