"""Photographs of people as they are taken, not aligned, with the crop of each face found without any labels.

The cascade finds the face, the embedded parser sees eyes and mouth in it, and these give the crop by the rule that
CelebA-HQ was cut with. A photograph where the two disagree is left out.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float64, UInt8

from s3pot.alignment import AlignedFace, crop_face
from s3pot.cascade import find_with_cascade
from s3pot.crop_rule import crop_around
from s3pot.images import read_image
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import CLASSES
from s3pot.parsing.network import PARSER_SIZE, FaceParser, parse_faces
from s3pot.seeding import derive_seed

# Real occlusions kept aside in real_dev.
_IN_REAL_DEV = frozenset({"dan-crenshaw", "frederica-wilson", "john-joyce"})
PORTRAIT_SIDE = 240
# The cascade needs no more; its cost grows with the square of this side.
_SEARCH_SIDE = 128
_KEPT_ASIDE = 0.2
_MOST_OFF_CENTER, _MOST_OFF_SIDE = 0.15, 0.3


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """One photograph.

    Attributes:
        image: (h, w, 3) uint8 RGB, long side 240.
        parsing: (h, w) uint8, 12 classes of its face, background wherever the crop does not reach.
        face: where the crop of the face lies.
    """

    image: UInt8[np.ndarray, "h w 3"]
    parsing: UInt8[np.ndarray, "h w"]
    face: LocatedFace


def list_portraits(root: Path, *, kept_aside: bool = False) -> list[Path]:
    """List the photographs for training, four in five by the hash of their name, or those kept aside for measuring.

    Args:
        root: folder of JPEG files.
        kept_aside: list the others instead.

    Raises:
        FileNotFoundError: if there are no photographs.
    """
    paths = [path for path in sorted(root.glob("*.jpg")) if path.stem not in _IN_REAL_DEV]
    if not paths:
        raise FileNotFoundError(f"no photographs of people in {root}/*.jpg")
    return [path for path in paths if (derive_seed(0, "portraits", path.stem) < _KEPT_ASIDE * 2**63) == kept_aside]


def load_portraits(paths: list[Path], parser: FaceParser) -> list[Portrait]:
    """Read photographs and find the crops of their faces; those without a certain one are left out."""
    portraits = [_load_portrait(path, parser) for path in paths]
    return [portrait for portrait in portraits if portrait is not None]


def celeba_crop(parsing: UInt8[np.ndarray, "h w"]) -> LocatedFace | None:
    """Return the crop that CelebA-HQ would have cut around eyes and mouth, None without two eyes and a mouth.

    Args:
        parsing: (H, W) uint8, 12 classes of a roughly upright face.
    """
    eyes = parsing == CLASSES.index("eyes")
    mouth = _middle(np.isin(parsing, [CLASSES.index("lip"), CLASSES.index("mouth")]))
    both = _middle(eyes)
    if both is None or mouth is None:
        return None
    columns = np.arange(parsing.shape[1])
    left, right = _middle(eyes & (columns < both[0])), _middle(eyes & (columns >= both[0]))
    if left is None or right is None:
        return None
    between = (left + right) / 2
    return crop_around(between, right - left, mouth - between)


def _middle(where: np.ndarray) -> Float64[np.ndarray, " 2"] | None:
    rows, cols = np.nonzero(where)
    return np.array([cols.mean(), rows.mean()]) if rows.size >= 8 else None


def _load_portrait(path: Path, parser: FaceParser) -> Portrait | None:
    image = _fit(read_image(path), PORTRAIT_SIDE)
    small = _fit(image, _SEARCH_SIDE)
    found = find_with_cascade(small)
    if found is None:
        return None
    scale = image.shape[1] / small.shape[1]
    rough = LocatedFace(x=(found.x + 0.5) * scale - 0.5, y=(found.y + 0.5) * scale - 0.5, side=found.side * scale)
    crop = crop_face(image, rough, PARSER_SIZE)
    pixels = torch.from_numpy(crop.image).permute(2, 0, 1)[None].float() / 255.0
    parsing = parse_faces(parser, pixels)[0].numpy()
    in_crop = celeba_crop(parsing)
    if in_crop is None or not _agree(in_crop):
        return None
    back = cv2.warpAffine(parsing, crop.to_original, image.shape[1::-1], flags=cv2.INTER_NEAREST)
    return Portrait(image=image, parsing=back, face=_to_photograph(in_crop, crop))


def _agree(in_crop: LocatedFace) -> bool:
    """Whether the refined crop is about the rough one, all of the picture."""
    middle = (PARSER_SIZE - 1) / 2
    off = max(abs(in_crop.x - middle), abs(in_crop.y - middle)) / PARSER_SIZE
    return off < _MOST_OFF_CENTER and abs(in_crop.side / PARSER_SIZE - 1.0) < _MOST_OFF_SIDE


def _to_photograph(face: LocatedFace, crop: AlignedFace) -> LocatedFace:
    # The rough crop is upright: places move and grow, the roll stays.
    matrix: Float64[np.ndarray, "2 3"] = crop.to_original
    x, y = matrix @ [face.x, face.y, 1.0]
    return LocatedFace(x=float(x), y=float(y), side=face.side * float(matrix[0, 0]), roll=face.roll)


def _fit(image: np.ndarray, side: int) -> UInt8[np.ndarray, "h w 3"]:
    scale = side / max(image.shape[:2])
    size_xy = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size_xy, interpolation=cv2.INTER_AREA)
