"""Training of the supervised stand-in: composite in, occluder inside R out [design 6, control d].

Literally nano SAM's composites: the same draws (stage, share of occluded pictures, decoys, clean faces), steps and
picture sizes. What differs is that this network is told what to segment. It is a baseline; the chain never sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.composite.cutouts import Cutout
from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig
from s3pot.pretrain.parser_training import draw_batch
from s3pot.pretrain.sam_training import SAM_SCHEDULE, mask_terms

SUPERVISED_SCHEDULE = PretrainConfig(phases=SAM_SCHEDULE.phases, learning_rate=1e-3)


@dataclass(frozen=True)
class SupervisedBatches:
    """Makes batches of pictures with an occluder, a seam only, or nothing, and the truth."""

    faces: FaceBank
    cutouts: Sequence[Cutout]
    seed: int = 0

    def __call__(self, step: int, phase: Phase) -> Batch:
        """Return image (B, 3, S, S) float32 in [0, 1] and target (B, S/2, S/2) float32, the occluded share."""
        samples = draw_batch(self.faces, self.cutouts, step, phase, self.seed, "pretrain/sam", 0.75)
        inside = [(sample.occluder & sample.region).astype(np.float32) for sample in samples]
        half = [cv2.resize(truth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for truth in inside]
        return {"image": pictures([sample.image for sample in samples]), "target": torch.from_numpy(np.stack(half))}


def supervised_loss(segmenter: SupervisedSegmenter, batch: Batch) -> dict[str, Tensor]:
    """Binary cross entropy + Dice, as nano SAM's masks have; the IoU is that of pictures with an occluder."""
    logits = segmenter(batch["image"].contiguous(memory_format=torch.channels_last)).float()
    terms = mask_terms(logits, batch["target"])
    with torch.no_grad():
        predicted, truth = logits > 0, batch["target"] > 0.5
        union = (predicted | truth).sum(dim=(1, 2)).float()
        overlap = (predicted & truth).sum(dim=(1, 2)).float()
        occluded = truth.flatten(1).any(dim=1)
        iou = (overlap / union.clamp(min=1))[occluded].sum() / occluded.sum().clamp(min=1)
    detached = {name: value.detach() for name, value in terms.items()}
    return {"loss": terms["cross_entropy"] + terms["dice"], "iou": iou, **detached}
