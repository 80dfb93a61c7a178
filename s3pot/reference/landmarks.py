"""Face landmarks: read off clean labels, and found in a picture with a confidence [S3POT 4.3].

The detector judges references, so it is trained on clean faces only and sees nothing but a picture: never a parsing,
which is drawn into the reference. It is small and short-sighted on purpose (each heat value sees 55 of 128 pixels): a
wide view would infer a covered mouth from the eyes and be sure of what is not there.

Heat is trained against a bump of height 1 and deviation `SPREAD` cells around the landmark with plain cross entropy, a
proper score: a heat value is the expected closeness of the landmark to that cell, given the picture. So a peak near 1
means "surely here", a blurred or missing part gives a low peak, and no weight of the loss shifts the scale.

Coordinates are (x, y) in pixels of the picture. Left and right are those of the picture, not of the person.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, conv_norm
from s3pot.parsing.classes import CLASSES, face_mask

LANDMARKS: tuple[str, ...] = (
    "left_brow",  # centroid of the eyebrow left of the midline
    "right_brow",
    "left_eye",  # centroid of the eye
    "right_eye",
    "nose",  # centroid
    "left_nostril",  # outermost part of the lower half of the nose
    "right_nostril",
    "left_mouth_corner",  # outermost part of lips and mouth
    "right_mouth_corner",
    "mouth",  # centroid of lips and mouth
    "chin",  # lowest part of the face
)
MIRRORED: tuple[int, ...] = (1, 0, 3, 2, 4, 6, 5, 8, 7, 9, 10)
"""Place of each landmark's counterpart in a mirrored picture."""

LANDMARK_SIZE = 128
STRIDE = 4
SPREAD = 1.5
"""Deviation of a landmark's bump in heat cells: 1.5 cells are 4.7 % of the side of the picture."""

# A part of fewer pixels than this share of the picture is a slip of the brush (13 pixels at 256).
_LEAST_SHARE = 0.0002
# An outermost part is the mean of this share of a region's pixels: single pixels are noise.
_EXTREME_SHARE = 0.03
_START_LOGIT = -4.0


class LandmarkDetector(nn.Module):
    """Heat maps of the landmarks; (B, 3, S, S) in [0, 1] -> logits (B, 11, S/4, S/4), 0.36 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(conv_norm(3, 32, stride=2), conv_norm(32, 64, stride=2), ConvBlock(64))
        self.eighth = nn.Sequential(conv_norm(64, 128, stride=2), conv_norm(128, 128), nn.Conv2d(128, 64, 1))
        self.merge = conv_norm(64, 64)
        self.head = nn.Conv2d(64, len(LANDMARKS), 1)
        # Nearly all of a heat map is cold: starting there spares the first hundred steps.
        nn.init.constant_(self.head.bias, _START_LOGIT)  # type: ignore[arg-type]

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h4 w4"]:
        """Return heat logits at stride 4."""
        quarter = self.quarter(image - 0.5)
        wide = functional.interpolate(self.eighth(quarter), scale_factor=2.0, mode="nearest")
        return self.head(self.merge(quarter + wide))


def read_landmarks(parsing: UInt8[np.ndarray, "h w"]) -> Float64[np.ndarray, "k 2"]:
    """Read the landmarks off the labels of a clean face.

    The midline runs through the centroids of nose and mouth: it tells left from right on a tilted head too.

    Args:
        parsing: (H, W) uint8, 12 classes.

    Returns:
        (11, 2) float64 positions in the order of `LANDMARKS`; NaN for what the labels do not show, and for all of them
        where nose or mouth is missing.
    """
    positions = np.full((len(LANDMARKS), 2), np.nan)
    least = max(4, round(_LEAST_SHARE * parsing.size))
    nose, mouth = _places(parsing, "nose"), _places(parsing, "lip", "mouth")
    if min(len(nose), len(mouth)) < least:
        return positions
    center, lips = nose.mean(axis=0), mouth.mean(axis=0)
    down = (lips - center) / max(float(np.linalg.norm(lips - center)), 1e-6)
    right = np.array([down[1], -down[0]])
    low_nose = nose[(nose - center) @ down >= 0.0]
    found = {
        "nose": center,
        "left_nostril": _outermost(low_nose, -right),
        "right_nostril": _outermost(low_nose, right),
        "left_mouth_corner": _outermost(mouth, -right),
        "right_mouth_corner": _outermost(mouth, right),
        "mouth": lips,
    }
    for part, name in (("eyebrows", "brow"), ("eyes", "eye")):
        places = _places(parsing, part)
        across = (places - center) @ right
        for side, own in (("left", places[across < 0.0]), ("right", places[across >= 0.0])):
            if len(own) >= least:
                found[f"{side}_{name}"] = own.mean(axis=0)
    rows, cols = np.nonzero(face_mask(parsing))
    face = np.stack([cols, rows], axis=1).astype(np.float64)
    # Only what lies over and under the mouth: on a tilted head a cheek may be lower.
    middle = face[np.abs((face - center) @ right) < 0.5 * np.ptp(mouth @ right)]
    below = middle[(middle - lips) @ down > 0.0]
    cut_off = ((below == 0) | (below == np.array(parsing.shape[::-1]) - 1)).any()
    if len(below) and not cut_off:
        found["chin"] = _outermost(middle, down)
    for name, position in found.items():
        positions[LANDMARKS.index(name)] = position
    return positions


def _places(parsing: np.ndarray, *names: str) -> Float64[np.ndarray, "n 2"]:
    rows, cols = np.nonzero(np.isin(parsing, [CLASSES.index(name) for name in names]))
    return np.stack([cols, rows], axis=1).astype(np.float64)


def _outermost(places: np.ndarray, direction: np.ndarray) -> Float64[np.ndarray, " 2"]:
    reach = places @ direction
    mean: Float64[np.ndarray, " 2"] = places[reach >= np.quantile(reach, 1.0 - _EXTREME_SHARE)].mean(axis=0)
    return mean


def landmark_heat(
    detector: LandmarkDetector, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]
) -> Float32[np.ndarray, "b k 32 32"]:
    """Find the landmarks of aligned pictures.

    Args:
        detector: in eval mode.
        images: (H, W, 3) uint8 RGB, aligned; resized by the long side, padded at the bottom and right.

    Returns:
        (B, 11, 32, 32) float32 heat in [0, 1] over the padded square.
    """
    squares = np.zeros((len(images), LANDMARK_SIZE, LANDMARK_SIZE, 3), dtype=np.uint8)
    for square, image in zip(squares, images, strict=True):
        scale = LANDMARK_SIZE / max(image.shape[:2])
        height, width = (max(1, round(extent * scale)) for extent in image.shape[:2])
        shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        square[:height, :width] = shrunk
    device = detector.head.weight.device
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).to(device).float() / 255.0
    with torch.no_grad():
        heat: Float32[np.ndarray, "b k 32 32"] = detector(pixels).float().sigmoid().cpu().numpy()
    return heat


def peak_positions(heat: Float32[np.ndarray, "k c c"], side: int) -> Float64[np.ndarray, "k 2"]:
    """Return where each landmark's heat is highest, (x, y) in pixels of a picture with long side `side`."""
    cells = heat.shape[-1]
    rows, cols = np.divmod(heat.reshape(len(heat), -1).argmax(axis=1), cells)
    return (np.stack([cols, rows], axis=1) + 0.5) * (side / cells) - 0.5


def confidence_at(
    heat: Float32[np.ndarray, "k c c"], positions: Float64[np.ndarray, "k 2"], side: int, reach: float = SPREAD
) -> Float64[np.ndarray, " k"]:
    """Read each landmark's confidence where it is expected.

    Args:
        heat: one picture's, of `landmark_heat`.
        positions: expected (x, y) in pixels; NaN where unknown.
        side: long side of that picture in pixels.
        reach: the highest heat within so many cells counts: a part drawn a little aside is still a part.

    Returns:
        (k,) float64 in [0, 1]; NaN where the position is unknown.
    """
    cells = heat.shape[-1]
    centers = np.arange(cells, dtype=np.float64)
    confidence = np.full(len(heat), np.nan)
    for row in np.flatnonzero(np.isfinite(positions).all(axis=1)):
        col_at, row_at = np.clip((positions[row] + 0.5) * (cells / side) - 0.5, 0, cells - 1)
        near: Bool[np.ndarray, "c c"] = (centers[None, :] - col_at) ** 2 + (centers[:, None] - row_at) ** 2 <= reach**2
        confidence[row] = heat[row][near].max()
    return confidence
