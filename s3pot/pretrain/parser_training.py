"""Training of the face parser: occluded picture in, labels of the clean face out [design 5.10]."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from s3pot.composite.cutouts import Cutout
from s3pot.parsing.classes import CLASSES
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig
from s3pot.pretrain.samples import Sample, draw_sample

PARSER_SCHEDULE = PretrainConfig(
    phases=(Phase(size=128, steps=2400, batch=16), Phase(size=256, steps=700, batch=16)), learning_rate=2e-3
)


@dataclass(frozen=True)
class ParserBatches:
    """Makes batches of occluded pictures and clean labels."""

    faces: FaceBank
    cutouts: Sequence[Cutout]
    seed: int = 0

    def __call__(self, step: int, phase: Phase) -> Batch:
        """Return image (B, 3, S, S) float32 in [0, 1] and parsing (B, S, S) int64."""
        samples = draw_batch(self.faces, self.cutouts, step, phase, self.seed, "pretrain/parser", 0.7)
        return {"image": pictures([sample.image for sample in samples]), "parsing": labels(samples)}


def draw_batch(
    faces: FaceBank,
    cutouts: Sequence[Cutout],
    step: int,
    phase: Phase,
    seed: int,
    stage: str,
    occluded_share: float,
) -> list[Sample]:
    """Draw the samples of one step."""
    first = step * 1024
    return [
        draw_sample(
            faces,
            cutouts,
            size=phase.size,
            seed=seed,
            stage=stage,
            index=first + place,
            occluded_share=occluded_share,
        )
        for place in range(phase.batch)
    ]


def labels(samples: Sequence[Sample]) -> Tensor:
    """Stack parsings into (B, S, S) int64."""
    return torch.from_numpy(np.stack([sample.parsing for sample in samples])).long()


def parser_loss(parser: FaceParser, batch: Batch) -> dict[str, Tensor]:
    """Cross entropy plus soft Dice over classes, which keeps thin parts (brows, lips, eyes) from being forgotten."""
    logits = parser(batch["image"].contiguous(memory_format=torch.channels_last)).float()
    target = batch["parsing"]
    entropy = functional.cross_entropy(logits, target)
    probability = logits.softmax(dim=1)
    truth = functional.one_hot(target, len(CLASSES)).permute(0, 3, 1, 2).float()
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    dice = 1.0 - (2 * overlap + 1.0) / (probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3)) + 1.0)
    present = truth.sum(dim=(0, 2, 3)) > 0
    dice_mean = dice[present].mean()
    return {"loss": entropy + dice_mean, "cross_entropy": entropy.detach(), "dice": dice_mean.detach()}
