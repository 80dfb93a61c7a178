"""The training loop of the embedded models: AdamW, constant then falling rate, bf16, moving average, resumable.

A model's module gives the batches and the loss; the loop knows nothing about faces.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training at one resolution.

    Attributes:
        size: side of the pictures in pixels.
        steps: optimizer steps.
        batch: pictures per step.
    """

    size: int
    steps: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How one embedded model is trained.

    Attributes:
        phases: resolutions in order; small pictures first train several times faster.
        learning_rate: held after a short warm-up, then falling to 0 over the last steps.
        decay_share: share of all steps, the last ones, over which it falls linearly.
        weight_decay: AdamW weight decay.
        average: decay of the moving average of weights, which is what is kept.
        seed: of weights and samples.
        checkpoint_minutes: time between checkpoints.
    """

    phases: tuple[Phase, ...]
    learning_rate: float = 1e-3
    decay_share: float = 0.4
    weight_decay: float = 0.01
    average: float = 0.998
    seed: int = 0
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.phases or any(phase.steps < 1 or phase.batch < 1 or phase.size % 32 for phase in self.phases):
            raise ValueError("phases: at least one, each with steps >= 1, batch >= 1 and a size divisible by 32")
        if self.weight_decay < 0.0 or self.checkpoint_minutes < 0.0:
            raise ValueError("weight_decay and checkpoint_minutes must be at least 0")
        if not 0.0 < self.decay_share <= 1.0:
            raise ValueError("decay_share must lie in (0, 1]")
        if not 0.0 < self.learning_rate < 1.0 or not 0.0 <= self.average < 1.0:
            raise ValueError("learning_rate must lie in (0, 1) and average in [0, 1)")

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """Return the phase that a step belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        raise IndexError(f"step lies {step} past the last phase")


# Makes the batch of one step; called in a worker process.
BatchMaker = Callable[[int, Phase], Batch]


class _Steps(IterableDataset[Batch]):
    def __init__(self, make_batch: BatchMaker, config: PretrainConfig, start: int) -> None:
        self.make_batch, self.config, self.start = make_batch, config, start

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        for step in range(self.start, self.config.total_steps):
            yield self.make_batch(step, self.config.phase_at(step))


def pretrain(
    model: nn.Module,
    make_batch: BatchMaker,
    loss_of: Callable[[Batch], dict[str, Tensor]],
    config: PretrainConfig,
    checkpoint: Path,
    report: Callable[[int, dict[str, float]], None],
) -> nn.Module:
    """Train a model and leave its averaged weights in it.

    Args:
        model: trained in place.
        make_batch: gives the batch of a step.
        loss_of: terms by name, unweighted terms included; "loss" is minimised.
        config: schedule.
        checkpoint: file to save to and resume from; kept after the end.
        report: called every 50 steps with mean terms, pictures per second and picture size.

    Raises:
        FloatingPointError: if the loss is not finite.
        ValueError: if the checkpoint was made with another schedule.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    start = _resume(checkpoint, config, model, optimizer, average)
    schedule = _rate_schedule(optimizer, config, start)
    loader = DataLoader(_Steps(make_batch, config, start), batch_size=None, num_workers=1, prefetch_factor=4)
    saved = reported = time.monotonic()
    sums: dict[str, float] = {}
    summed = 0
    model.train()
    for step, batch in enumerate(loader, start=start):
        with torch.autocast("cpu" if not torch.cuda.is_available() else "cuda", torch.bfloat16):
            terms = loss_of(batch)
        if not torch.isfinite(terms["loss"]):
            raise FloatingPointError(f"loss is {terms['loss'].item()} at step {step}: lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        _update_average(average, model, min(config.average, (step + 1) / (step + 10)))
        summed += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if (step + 1) % 50 == 0 or step + 1 == config.total_steps:
            seconds = (time.monotonic() - reported) / summed
            means = {name: value / summed for name, value in sums.items()}
            pace = config.phase_at(step).batch / seconds
            report(step + 1, means | {"images_per_second": pace, "size": float(config.phase_at(step).size)})
            reported, sums, summed = time.monotonic(), {}, 0
        if time.monotonic() - saved > 60 * config.checkpoint_minutes or step + 1 == config.total_steps:
            _save(checkpoint, config, model, optimizer, average, step + 1)
            saved = time.monotonic()
    model.load_state_dict(average)
    return model.eval()


def _rate_schedule(
    optimizer: torch.optim.Optimizer, config: PretrainConfig, start: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm up, hold, fall linearly. Pictures grow late in training: a cosine would leave them no rate to adapt with."""
    total = config.total_steps
    warmup, decay = max(1, min(100, total // 20)), max(1.0, config.decay_share * total)

    def factor(step: int) -> float:
        done = start + step
        return min(1.0, (done + 1) / warmup, max(0.0, (total - done) / decay))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.dtype.is_floating_point:
            average[name].lerp_(tensor, 1.0 - decay)
        else:
            average[name].copy_(tensor)


def _save(
    path: Path,
    config: PretrainConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    step: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    state["schedule"] = repr(config)
    torch.save(state, part)
    os.replace(part, path)


def _resume(
    path: Path,
    config: PretrainConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state.get("schedule") != repr(config):
        raise ValueError(
            f"{path} was trained with {state.get('schedule', 'an unknown schedule')}, not with {config!r}: "
            "going on would give weights that no command reproduces. Move it away to start again."
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, tensor in state["average"].items():
        average[name].copy_(tensor)
    return int(state["step"])
