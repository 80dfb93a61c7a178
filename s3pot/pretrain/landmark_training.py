"""Training of the landmark detector: clean faces in, a bump of heat around every landmark out [S3POT 4.3].

No occluder, decoy or generated picture is ever seen, so a low confidence is the detector's own surprise and not what it
was taught about occluders. Pictures are softened and tinted (`degrade`), because references are soft and blur alone is
no fault of theirs.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn import functional

from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig
from s3pot.pretrain.sam_training import degrade
from s3pot.reference.landmarks import LANDMARK_SIZE, MIRRORED, SPREAD, STRIDE, LandmarkDetector, read_landmarks
from s3pot.seeding import generator

LANDMARK_SCHEDULE = PretrainConfig(phases=(Phase(size=LANDMARK_SIZE, steps=500, batch=16),), learning_rate=2e-3)
_DEGRADED_SHARE = 0.5


@dataclass(frozen=True)
class LandmarkBatches:
    """Makes batches of clean pictures and heat."""

    faces: FaceBank
    seed: int = 0

    @cached_property
    def readable(self) -> list[tuple[int, Float64[np.ndarray, "k 2"]]]:
        """Rows of the faces whose labels show nose and mouth, each with its landmarks.

        Raises:
            ValueError: if there is none.
        """
        read = [(row, read_landmarks(parsing)) for row, parsing in enumerate(self.faces.parsings)]
        found = [(row, positions) for row, positions in read if np.isfinite(positions).any()]
        if not found:
            raise ValueError(f"none of the labels of {len(self.faces)} faces shows a nose and a mouth")
        return found

    def __call__(self, step: int, phase: Phase) -> Batch:
        """Return image (B, 3, S, S) float32 in [0, 1] and heat (B, 11, S/4, S/4) float32 in [0, 1]."""
        images, heat = [], []
        for place in range(phase.batch):
            rng = generator(self.seed, "pretrain/landmarks", str(step * 1024 + place))
            row, positions = self.readable[int(rng.integers(len(self.readable)))]
            image, moved = move_face(self.faces.images[row], positions, phase.size, rng)
            images.append(change_light(image, rng))
            heat.append(bumps(moved, phase.size))
        return {"image": pictures(images), "heat": torch.from_numpy(np.stack(heat))}


def move_face(
    image: np.ndarray, positions: Float64[np.ndarray, "k 2"], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, Float64[np.ndarray, "k 2"]]:
    """Mirror, zoom, turn and shift a face with its landmarks, to a square of `size` pixels."""
    side = image.shape[0]
    zoom = rng.uniform(0.8, 1.25) * size / side
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), rng.normal(0, 8.0), zoom)
    matrix[:, 2] += (size - side) / 2 + rng.normal(0, 0.04, size=2) * size
    if rng.random() < 0.5:
        matrix[:, 2] += matrix[:, 0] * (side - 1)
        matrix[:, 0] *= -1
        # What was the right eye is the left one of the mirrored picture.
        positions = positions[list(MIRRORED)]
    if zoom < 0.75:
        image = cv2.GaussianBlur(image, (0, 0), 0.45 * (1.0 / zoom - 1.0) + 0.1)
    moved = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return moved, positions @ matrix[:, :2].T + matrix[:, 2]


def change_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast and colour; half of the pictures are softened and tinted as well."""
    pixels = image.astype(np.float32)
    gray = pixels.mean(axis=2, keepdims=True)
    pixels = (gray + rng.uniform(0.3, 1.3) * (pixels - gray)) * rng.uniform(0.7, 1.3) + rng.normal(0, 10.0)
    changed: np.ndarray = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    return degrade(changed, rng) if rng.random() < _DEGRADED_SHARE else changed


def bumps(positions: Float64[np.ndarray, "k 2"], size: int) -> Float32[np.ndarray, "k c c"]:
    """Draw a bump of height 1 around every landmark; one that is unknown, or outside the picture, has no heat."""
    cells = size // STRIDE
    centers = (np.arange(cells) + 0.5) * STRIDE - 0.5
    across = (centers[None, :] - positions[:, :1]) ** 2
    along = (centers[None, :] - positions[:, 1:]) ** 2
    heat = np.exp(-(along[:, :, None] + across[:, None, :]) / (2.0 * (SPREAD * STRIDE) ** 2))
    inside = (positions >= -0.5) & (positions <= size - 0.5)
    return np.where(inside[:, :1, None] & inside[:, 1:, None], heat, 0.0).astype(np.float32)


def landmark_loss(detector: LandmarkDetector, batch: Batch) -> dict[str, Tensor]:
    """Plain cross entropy per heat map, unweighted: a weight would shift what a confidence means."""
    logits = detector(batch["image"].contiguous(memory_format=torch.channels_last)).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, batch["heat"], reduction="none")
    shown = batch["heat"].amax(dim=(2, 3)) > 0.5
    with torch.no_grad():
        peak = logits.sigmoid().amax(dim=(2, 3))[shown].mean() if shown.any() else logits.new_zeros(())
    return {"loss": entropy.sum(dim=(2, 3)).mean(), "peak": peak}
