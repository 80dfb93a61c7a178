"""Training of the reference generator: occluded picture and clean parsing in, clean picture out [design 7, 5.10].

Beside L1, gradients and local structure, the reference is compared with the clean picture in the tokens of the frozen
nano SAM: what the chain contrasts is tokens, not pixels. Every term treats all places alike whatever lies on them,
except that the face counts more than its surroundings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from s3pot.composite.cutouts import Cutout
from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig
from s3pot.pretrain.parser_training import draw_batch, labels
from s3pot.pretrain.sam_training import encode_pixels
from s3pot.reference.generator import ReferenceGenerator, one_hot_parsing
from s3pot.sam.promptable import PromptableSam

GENERATOR_SCHEDULE = PretrainConfig(
    phases=(Phase(size=128, steps=1100, batch=16), Phase(size=256, steps=250, batch=12)), learning_rate=1e-3
)
FACE_WEIGHT = 4.0
STRUCTURE_WEIGHT = 0.15
# Cosine distances of tokens are small (0.02): this brings them to the size of the pixel terms.
TOKEN_WEIGHT = 3.0


@dataclass(frozen=True)
class GeneratorBatches:
    """Makes batches of occluded and clean pictures with the clean parsing."""

    faces: FaceBank
    cutouts: Sequence[Cutout]
    seed: int = 0

    def __call__(self, step: int, phase: Phase) -> Batch:
        """Return image and clean (B, 3, S, S) float32 in [0, 1], parsing (B, S, S) int64, region (B, 1, S, S)."""
        samples = draw_batch(self.faces, self.cutouts, step, phase, self.seed, "pretrain/generator", 0.8)
        return {
            "image": pictures([sample.image for sample in samples]),
            "clean": pictures([sample.clean for sample in samples]),
            "parsing": labels(samples),
            "region": torch.stack([torch.from_numpy(sample.region) for sample in samples])[:, None].float(),
        }


def generator_loss(generator: ReferenceGenerator, judge: PromptableSam, batch: Batch) -> dict[str, Tensor]:
    """L1, gradients and local structure, the face counting four times, + cosine distance of nano SAM tokens."""
    clean = batch["clean"]
    reference = generator(batch["image"], one_hot_parsing(batch["parsing"].to(torch.uint8))).float()
    weight = 1.0 + (FACE_WEIGHT - 1.0) * batch["region"]
    weight = weight / weight.mean()
    pixel = ((reference - clean).abs() * weight).mean()
    gradient = _gradient_difference(reference - clean, weight)
    structure = ((1.0 - local_similarity(reference, clean)) * weight).mean()
    with torch.no_grad():
        target = encode_pixels(judge, clean * 255.0)
    tokens = encode_pixels(judge, reference * 255.0)
    token = 1.0 - functional.cosine_similarity(tokens, target, dim=1).mean()
    return {
        "loss": pixel + gradient + STRUCTURE_WEIGHT * structure + TOKEN_WEIGHT * token,
        "pixel": pixel.detach(),
        "gradient": gradient.detach(),
        "structure": structure.detach(),
        "token": token.detach(),
    }


def local_similarity(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the structural similarity (SSIM) of pictures in [0, 1] in a uniform 7 x 7 window around every pixel."""

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, 7, stride=1, padding=3, count_include_pad=False)

    mean_first, mean_second = mean(first), mean(second)
    variance = mean(first**2) - mean_first**2 + mean(second**2) - mean_second**2
    covariance = mean(first * second) - mean_first * mean_second
    light = (2 * mean_first * mean_second + 1e-4) / (mean_first**2 + mean_second**2 + 1e-4)
    return light * (2 * covariance + 9e-4) / (variance + 9e-4)


def _gradient_difference(difference: Tensor, weight: Tensor) -> Tensor:
    horizontal = (difference[..., 1:] - difference[..., :-1]).abs() * weight[..., 1:]
    vertical = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weight[..., 1:, :]
    return horizontal.mean() + vertical.mean()
