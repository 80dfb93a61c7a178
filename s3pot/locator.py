"""The embedded face locator: where faces lie in a photograph, occluded ones too, as crops framed like CelebA-HQ.

A small network with one answer per 8 x 8 pixels of a shrunken photograph, after CenterNet (Zhou, Wang, Krähenbühl:
Objects as Points, 2019): is the middle of a face crop here, where exactly, how large and how much rolled is the crop.

Angles are radians, positive when a level line falls to the right in the picture: x to the right, y down.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, GridTransformer, conv_norm

LOCATOR_SIZE = 160
STRIDE = 8
# A face is an answer at least this sure. Of two whose centres are closer than this share of a crop's side, one stays.
MIN_SCORE = 0.3
_SAME_FACE = 0.3


@dataclass(frozen=True, kw_only=True)
class LocatedFace:
    """A square crop around a face: all of an aligned CelebA-HQ picture.

    Attributes:
        x: centre, in pixels of the picture; the middle of its first pixel is 0.
        y: centre.
        side: side of the crop in pixels of the picture.
        roll: how far the crop's upper edge is turned, in radians.
        score: in [0, 1], how sure it is that this is a face.
    """

    x: float
    y: float
    side: float
    roll: float = 0.0
    score: float = 1.0


class FaceMaps(NamedTuple):
    """What the locator says about every cell.

    Attributes:
        score: (B, h, w) logits: the centre of a crop lies in or near this cell.
        offset: (B, 2, h, w) from the middle of the cell to the centre (x, y), in cells.
        log_side: (B, h, w) natural logarithm of the crop's side over the side of the network's picture.
        turn: (B, 2, h, w) sine and cosine of the roll, not normalised.
    """

    score: Float[Tensor, "b h w"]
    offset: Float[Tensor, "b 2 h w"]
    log_side: Float[Tensor, "b h w"]
    turn: Float[Tensor, "b 2 h w"]


class FaceLocator(nn.Module):
    """Locate faces; (B, 3, S, S) in [0, 1] -> `FaceMaps` of S / 8 cells, S a multiple of 16 (160 after training)."""

    def __init__(self) -> None:
        super().__init__()
        # The first three stages are those of the face parser, whose weights training starts from.
        self.stage2 = conv_norm(3, 32, stride=2)
        self.stage4 = nn.Sequential(conv_norm(32, 64, stride=2), ConvBlock(64))
        self.stage8 = nn.Sequential(conv_norm(64, 96, stride=2), ConvBlock(96))
        self.stage16 = nn.Sequential(conv_norm(96, 112, stride=2), ConvBlock(112))
        # What a face is follows from its surroundings when most of it is covered.
        self.context = GridTransformer(112, layers=2, grid=LOCATOR_SIZE // 16)
        self.up8 = conv_norm(112 + 96, 80)
        self.head = nn.Conv2d(80, 6, 1)
        # Hardly any cell holds a face, and most crops fill about half of the picture, upright.
        self.head.weight.data.mul_(0.1)
        self.head.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, math.log(0.5), 0.0, 1.0]))

    def forward(self, picture: Float[Tensor, "b 3 s s"]) -> FaceMaps:
        """Return the maps of a letterboxed picture."""
        eighth = self.stage8(self.stage4(self.stage2(picture - 0.5)))
        features = self.context(self.stage16(eighth))
        features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        maps = self.head(self.up8(torch.cat([features, eighth], dim=1)))
        return FaceMaps(maps[:, 0], maps[:, 1:3], maps[:, 3], maps[:, 4:6])


def locate_faces(locator: FaceLocator, image: UInt8[np.ndarray, "h w 3"]) -> list[LocatedFace]:
    """Find faces in a photograph.

    Args:
        locator: the network, in eval mode.
        image: (H, W, 3) uint8 RGB.

    Returns:
        Faces in pixels of the photograph, the surest first.
    """
    small, scale = letterbox(image)
    picture = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255.0
    with torch.no_grad():
        maps = locator(picture.to(next(locator.parameters()).device))
    return [
        LocatedFace(
            x=(face.x + 0.5) / scale - 0.5,
            y=(face.y + 0.5) / scale - 0.5,
            side=face.side / scale,
            roll=face.roll,
            score=face.score,
        )
        for face in decode_faces(FaceMaps(*(part[0].float().cpu() for part in maps)))
    ]


def letterbox(image: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "s s 3"], float]:
    """Shrink or enlarge a photograph to a long side of 160 px and fill up with grey, at the bottom or right.

    Returns:
        (160, 160, 3) uint8 RGB, and its pixels per pixel of the photograph.
    """
    height, width = image.shape[:2]
    scale = LOCATOR_SIZE / max(height, width)
    size_xy = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = cv2.resize(image, size_xy, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.full((LOCATOR_SIZE, LOCATOR_SIZE, 3), 127, dtype=np.uint8)
    canvas[: size_xy[1], : size_xy[0]] = fitted
    return canvas, scale


def decode_faces(maps: FaceMaps) -> list[LocatedFace]:
    """Read faces off the maps of one picture: local maxima of the score, without those that mean the same face.

    Args:
        maps: as of `FaceLocator`, without the batch dimension.

    Returns:
        Faces in pixels of the network's picture, the surest first.
    """
    probability = maps.score.sigmoid()
    highest = functional.max_pool2d(probability[None, None], 3, stride=1, padding=1)[0, 0]
    cells = ((probability == highest) & (probability >= MIN_SCORE)).nonzero().tolist()
    return without_doubles([_face_at(maps, probability[row, col].item(), row, col) for row, col in cells])


def _face_at(maps: FaceMaps, score: float, row: int, col: int) -> LocatedFace:
    right, down = maps.offset[:, row, col].tolist()
    sine, cosine = maps.turn[:, row, col].tolist()
    return LocatedFace(
        x=(col + 0.5 + right) * STRIDE - 0.5,
        y=(row + 0.5 + down) * STRIDE - 0.5,
        side=math.exp(maps.log_side[row, col].item()) * maps.score.shape[-1] * STRIDE,
        roll=math.atan2(sine, cosine),
        score=score,
    )


def without_doubles(faces: Sequence[LocatedFace]) -> list[LocatedFace]:
    """Keep the surest of faces whose centres lie within 0.3 sides of the larger crop; the surest first."""
    kept: list[LocatedFace] = []
    # Ties go to the upper left, so that the order of answers does not matter.
    for face in sorted(faces, key=lambda face: (-face.score, face.y, face.x)):
        if all(math.hypot(face.x - k.x, face.y - k.y) > _SAME_FACE * max(face.side, k.side) for k in kept):
            kept.append(face)
    return kept
