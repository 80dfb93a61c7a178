"""Per-image overfitting: a head for every image, fitted to the prompts of that image alone [S3POT 4].

Transductive: a head has seen the image it is judged on, though never its truth [design 5.14]. The budget counts
optimizer steps; one image tolerates a higher rate than a data set.

Several images may be worked on together. Their prompts, each reweighted by its own head, are decoded in one batch; the
gradient of the sum of their objectives is, for every head, that of its own image; and AdamW treats every parameter by
itself. So what an image gets does not depend on its company, but for the rounding of sums in another order.

The rate falls to 0 by a cosine over the whole budget. An image whose objective is flat may stop before: it keeps its
head as it is then, which has not seen the low rates of the end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from s3pot.head.head_per_image import HeadPerImage
from s3pot.head.objectives import ObjectiveConfig, ObjectiveTerms
from s3pot.head.records import PromptRecord, collate
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.head.training import batch_terms, cosine_rate
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import derive_seed

Stopped = Literal["budget", "flat", "not_finite"]
CURVES = ("total", "recall_occlusion", "recall_face", "face_penalty")
"""What is followed from step to step; names of `ObjectiveTerms`."""


@dataclass(frozen=True, kw_only=True)
class PerImageConfig:
    """How one image is overfitted.

    Attributes:
        steps: most optimizer steps, the budget; the cosine decay is over all of them.
        learning_rate: of the first step, in (0, 1).
        weight_decay: of AdamW, at least 0.
        patience: stop when this many steps in a row brought nothing; 0 = use the whole budget.
        min_improvement: how far these steps together must lower the lowest objective to have brought something.
    """

    steps: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    patience: int = 0
    min_improvement: float = 1e-3

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0.0 < self.learning_rate < 1.0:
            raise ValueError(f"learning_rate must lie in (0, 1), got {self.learning_rate}")
        if self.weight_decay < 0.0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience}")
        if not 0.0 <= self.min_improvement < math.inf:
            raise ValueError(f"min_improvement must be at least 0 and finite, got {self.min_improvement}")


@dataclass(frozen=True, kw_only=True)
class Overfitted:
    """What became of one image.

    Attributes:
        curves: by name of `CURVES`, the value before every step and, last, that of the head as it is kept.
        stopped: `budget` spent, objective `flat`, or `not_finite`, in which case the head is of no use.
    """

    curves: dict[str, tuple[float, ...]]
    stopped: Stopped

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return len(self.curves["total"]) - 1


def initial_head(form: ReweighterConfig, seed: int, image_id: str) -> PromptReweighter:
    """Make the head an image starts from; it follows from seed and id alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "overfit", image_id) % 2**31)
        return PromptReweighter(form)


def overfit_heads(
    heads: Sequence[PromptReweighter],
    sam: PromptableSam,
    records: Sequence[PromptRecord],
    config: PerImageConfig,
    objective: ObjectiveConfig,
) -> list[Overfitted]:
    """Overfit a head to each of some images, in place and all together.

    Args:
        heads: one per record, on the device of the SAM, all of one form.
        sam: frozen.
        records: the images, in memory.
        config: optimisation.
        objective: which objective.

    Returns:
        One result per record, in order.

    Raises:
        ValueError: if there are not as many heads as records, or none.
    """
    if not heads or len(heads) != len(records):
        raise ValueError(f"expected a head for each image, got {len(heads)} heads and {len(records)} images")
    sam.requires_grad_(False)
    parameters = [parameter for head in heads for parameter in head.train().parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    fits = [_Fit(head, record) for head, record in zip(heads, records, strict=True)]
    going: list[_Fit] = []
    for step in range(config.steps + 1):
        still = [fit for fit in fits if fit.stopped is None]
        if len(still) != len(going):
            going = still
            prompts = collate([fit.record for fit in going], sam.device)
            reweighter = HeadPerImage([fit.head for fit in going])
        terms = batch_terms(sam, reweighter, prompts, objective)
        for fit, values in zip(going, _curve_values(terms), strict=True):
            fit.values.append(values)
            fit.stopped = _why_stopped([value[0] for value in fit.values], config)
        rows = [row for row, fit in enumerate(going) if fit.stopped is None]
        if not rows:
            break
        optimizer.zero_grad(set_to_none=True)
        terms.total[rows].sum().backward()
        for fit in going:
            if fit.stopped is not None:
                fit.head.zero_grad(set_to_none=True)  # what has no gradient AdamW leaves alone
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(config.learning_rate, step, config.steps)
        optimizer.step()
    return [fit.result() for fit in fits]


class _Fit:
    """An image under way."""

    def __init__(self, head: PromptReweighter, record: PromptRecord) -> None:
        self.head, self.record = head, record
        self.values: list[list[float]] = []
        self.stopped: Stopped | None = None

    def result(self) -> Overfitted:
        assert self.stopped is not None
        self.head.eval()
        curves = dict(zip(CURVES, map(tuple, zip(*self.values, strict=True)), strict=True))
        return Overfitted(curves=curves, stopped=self.stopped)


def _curve_values(terms: ObjectiveTerms) -> list[list[float]]:
    """Return the values of `CURVES` of each image, with one copy from the device."""
    values: list[list[float]] = torch.stack([getattr(terms, name).detach() for name in CURVES], dim=1).tolist()
    return values


def _why_stopped(totals: Sequence[float], config: PerImageConfig) -> Stopped | None:
    """Say whether an image stops, given its objective before every step so far and now."""
    if not math.isfinite(totals[-1]):
        return "not_finite"
    if len(totals) > config.steps:
        return "budget"
    if config.patience and is_flat(totals, config.patience, config.min_improvement):
        return "flat"
    return None


def is_flat(totals: Sequence[float], patience: int, min_improvement: float) -> bool:
    """Say whether the last `patience` values lie at most `min_improvement` below the lowest one before them."""
    before, recent = totals[:-patience], totals[-patience:]
    return bool(before) and min(before) - min(recent) <= min_improvement
