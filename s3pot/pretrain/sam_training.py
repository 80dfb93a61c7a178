"""Training of the nano SAM: promptable segmentation with many kinds of targets [design 6, 7].

No occlusion truth enters anything but the promptable loss. A second term makes the encoder invariant between two
renderings of the same unoccluded face, one of them degraded as a generated reference is: soft, tinted, noisy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from s3pot.composite.cutouts import Cutout
from s3pot.images import read_image
from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig
from s3pot.pretrain.prompt_targets import SET_SIZES, Regime, Target, draw_clicks, face_targets, segment_targets
from s3pot.pretrain.samples import draw_sample
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import generator

SAM_SCHEDULE = PretrainConfig(
    phases=(Phase(size=128, steps=3400, batch=16), Phase(size=256, steps=1000, batch=12)), learning_rate=1e-3
)
SETS_PER_IMAGE = 4
PAIRS = 2
NATURAL_SHARE = 0.15
INVARIANCE_WEIGHT = 0.3
# Single clicks, what feature enhancement asks with, come late: they say least.
_REGIMES: tuple[Regime, ...] = ("few", "some", "dense", "few")
_LATE_REGIMES: tuple[Regime, ...] = ("single", "some", "dense", "few")
_LATE_FROM_STEP = 1500


@dataclass(frozen=True, kw_only=True)
class NaturalBank:
    """Natural photographs with human segmentations.

    Attributes:
        images: (H, W, 3) uint8 each.
        segments: (H, W) int32 segment ids each, one list per picture.
    """

    images: list[UInt8[np.ndarray, "_ _ 3"]]
    segments: list[list[Int[np.ndarray, "_ _"]]]


def load_natural(root: Path) -> NaturalBank:
    """Read `root/images/*.jpg` and `root/segments/<stem>_*.png`.

    Raises:
        FileNotFoundError: if there is no picture with a segmentation.
    """
    images, segments = [], []
    for path in sorted((root / "images").glob("*.jpg")):
        maps = sorted((root / "segments").glob(f"{path.stem}_*.png"))
        if maps:
            images.append(read_image(path))
            segments.append([_read_segments(segment_path) for segment_path in maps])
    if not images:
        raise FileNotFoundError(f"no {root}/images/*.jpg with {root}/segments/<stem>_*.png")
    return NaturalBank(images=images, segments=segments)


def _read_segments(path: Path) -> Int[np.ndarray, "_ _"]:
    with Image.open(path) as opened:
        return np.asarray(opened).astype(np.int32)


@dataclass(frozen=True)
class SamBatches:
    """Makes batches of pictures, targets and clicks, with pairs of renderings for the invariance term."""

    faces: FaceBank
    cutouts: Sequence[Cutout]
    natural: NaturalBank
    model_size: int = 256
    patch: int = 8
    seed: int = 0

    def __call__(self, step: int, phase: Phase) -> Batch:
        """Return image (B, 3, S, S), target (B*K, S/2, S/2), points (B*K, N, 2) in the model frame, polarity, valid."""
        regimes = _REGIMES if step < _LATE_FROM_STEP else _LATE_REGIMES
        regime = regimes[step % len(regimes)]
        images, insides, clicks = [], [], []
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for place in range(phase.batch):
            index = step * 1024 + place
            rng = generator(self.seed, "pretrain/sam/clicks", str(index))
            if rng.random() < NATURAL_SHARE:
                image, targets = self._natural(phase.size, rng)
            else:
                image, targets = self._face(phase.size, index, rng, pairs)
            targets = targets or [_everything(phase.size)] * SETS_PER_IMAGE
            images.append(image)
            insides += [target.inside for target in targets]
            clicks += [draw_clicks(target, regime, self.patch, rng) for target in targets]
        points, polarity, valid = pad_clicks(clicks, SET_SIZES[regime])
        small = [
            cv2.resize(inside.astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            for inside in insides
        ]
        batch: Batch = {
            "image": pictures(images) * 255.0,
            "target": torch.from_numpy(np.stack(small)),
            "points": (points + 0.5) * (self.model_size / phase.size) - 0.5,
            "polarity": polarity,
            "valid": valid,
        }
        if pairs:
            batch["rendering_a"] = pictures([first for first, _ in pairs]) * 255.0
            batch["rendering_b"] = pictures([second for _, second in pairs]) * 255.0
        return batch

    def _face(
        self, size: int, index: int, rng: np.random.Generator, pairs: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, list[Target]]:
        sample = draw_sample(
            self.faces,
            self.cutouts,
            size=size,
            seed=self.seed,
            stage="pretrain/sam",
            index=index,
            occluded_share=0.75,
        )
        if len(pairs) < PAIRS:
            pairs.append((sample.clean, degrade(sample.clean, rng)))
        return sample.image, face_targets(sample, SETS_PER_IMAGE, rng)

    def _natural(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Target]]:
        row = int(rng.integers(len(self.natural.images)))
        image = self.natural.images[row]
        maps = self.natural.segments[row]
        segments = maps[int(rng.integers(len(maps)))]
        crop = int(min(image.shape[:2]) * rng.uniform(0.55, 1.0))
        top, left = (int(rng.integers(extent - crop + 1)) for extent in image.shape[:2])
        image = cv2.resize(image[top : top + crop, left : left + crop], (size, size), interpolation=cv2.INTER_AREA)
        part = segments[top : top + crop, left : left + crop].astype(np.float32)
        segments = cv2.resize(part, (size, size), interpolation=cv2.INTER_NEAREST).astype(np.int32)
        if rng.random() < 0.5:
            image, segments = image[:, ::-1].copy(), segments[:, ::-1].copy()
        return image, segment_targets(segments, SETS_PER_IMAGE, rng)


def _everything(size: int) -> Target:
    whole = np.ones((size, size), dtype=bool)
    return Target(inside=whole, contrast=~whole, kind="segment")


def pad_clicks(clicks: Sequence[tuple[np.ndarray, np.ndarray]], most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pad click sets to a common length: points (M, N, 2) float32, polarity (M, N) int64, valid (M, N) bool."""
    length = min(most, max(len(points) for points, _ in clicks))
    padded = np.zeros((len(clicks), length, 2), dtype=np.float32)
    polarity, valid = np.zeros((len(clicks), length), dtype=np.int64), np.zeros((len(clicks), length), dtype=bool)
    for row, (points, kinds) in enumerate(clicks):
        count = min(len(points), length)
        padded[row, :count], polarity[row, :count], valid[row, :count] = points[:count], kinds[:count], True
    return torch.from_numpy(padded), torch.from_numpy(polarity), torch.from_numpy(valid)


def degrade(image: UInt8[np.ndarray, "s s 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "s s 3"]:
    """Make a clean face look generated: soft, slightly tinted, with low-frequency errors."""
    side = image.shape[0]
    pixels = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.6, 3.0) * side / 256)
    grid = int(rng.integers(4, 12))
    error = rng.normal(0, 1.0, size=(grid, grid, 3)).astype(np.float32) * rng.uniform(0, 10.0)
    pixels = pixels + cv2.resize(error, (side, side), interpolation=cv2.INTER_CUBIC)
    pixels = pixels * (1.0 + rng.normal(0, 0.04, size=3)) + rng.normal(0, 5.0)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encode_pixels(sam: PromptableSam, pixels: Tensor) -> Tensor:
    """Encode square pictures (B, 3, S, S) in 0..255 with gradient: normalised, nothing to pad."""
    stock = sam.sam
    normalised = (pixels - stock.pixel_mean) / stock.pixel_std
    return stock.image_encoder(normalised.contiguous(memory_format=torch.channels_last)).float()


def sam_loss(sam: PromptableSam, batch: Batch) -> dict[str, Tensor]:
    """Binary cross entropy + Dice of every prompt set, IoU prediction, and invariance of the encoder."""
    pixels = batch["image"]
    renderings = [batch[name] for name in ("rendering_a", "rendering_b") if name in batch]
    tokens = encode_pixels(sam, torch.cat([pixels, *renderings]))
    image_tokens = tokens[: len(pixels)].repeat_interleave(SETS_PER_IMAGE, dim=0)
    embeddings = sam.embed_points(batch["points"], batch["polarity"])
    mask_logits, predicted_iou = sam.decode_with_iou(image_tokens, embeddings, batch["valid"])
    terms = mask_terms(mask_logits.float(), batch["target"])
    with torch.no_grad():
        predicted, truth = mask_logits > 0, batch["target"] > 0.5
        overlap = (predicted & truth).sum(dim=(1, 2)).float()
        iou = overlap / (predicted | truth).sum(dim=(1, 2)).clamp(min=1)
    iou_error = functional.mse_loss(predicted_iou.float(), iou)
    invariance = tokens.new_zeros(())
    if renderings:
        first, second = tokens[len(pixels) :].chunk(2)
        invariance = 1.0 - functional.cosine_similarity(first, second, dim=1).mean()
    loss = terms["cross_entropy"] + terms["dice"] + 0.1 * iou_error + INVARIANCE_WEIGHT * invariance
    detached = {name: value.detach() for name, value in terms.items()}
    return {"loss": loss, "iou": iou.mean(), "invariance": invariance.detach(), **detached}


def mask_terms(mask_logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return mean cross entropy and soft Dice over prompt sets; logits and target (M, s, s), target in [0, 1]."""
    entropy = functional.binary_cross_entropy_with_logits(mask_logits, target)
    probability = mask_logits.sigmoid()
    overlap = (probability * target).sum(dim=(1, 2))
    dice = 1.0 - (2 * overlap + 1.0) / (probability.sum(dim=(1, 2)) + target.sum(dim=(1, 2)) + 1.0)
    return {"cross_entropy": entropy, "dice": dice.mean()}
