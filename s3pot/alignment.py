"""From a photograph to the aligned face crop and back [design 2: frames `original` and `aligned`].

Embedded models expect faces framed as in CelebA-HQ. `detect` finds the face with the LBP cascade that scikit-image
ships (OpenCV 5 has none any more) and crops a square around it; `none` takes the picture as an aligned face and only
resizes it by its long side.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade

AlignmentMode = Literal["none", "detect"]

# Where the cascade's box lies in an aligned CelebA-HQ face: side of the crop over side of the box, and the centre of
# the box in the crop. Medians over 60 faces of CelebAMask-HQ, all of which were found.
_CROP_PER_BOX = 1.566
_BOX_CENTER_XY = (0.502, 0.551)
_MIN_FACE_SHARE = 0.1
# The cascade's cost grows with the square of this side; faces below 38 px of it are not looked for.
_SEARCH_SIDE = 384


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedFace:
    """A face crop and the way back.

    Attributes:
        image: (h, w, 3) uint8 RGB whose long side is the working size.
        to_original: (2, 3) affine map from pixels (x, y) of the crop to pixels of the original.
    """

    image: UInt8[np.ndarray, "h w 3"]
    to_original: Float64[np.ndarray, "2 3"]


def align_face(image: UInt8[np.ndarray, "h w 3"], mode: AlignmentMode, size: int) -> AlignedFace | None:
    """Crop the largest face, or take the picture as it is.

    Args:
        image: (H, W, 3) uint8 RGB photograph.
        mode: "detect" or "none".
        size: long side of the crop in pixels.

    Returns:
        The aligned face; None when no face was found.
    """
    if mode == "none":
        scale = size / max(image.shape[:2])
        width, height = (max(1, round(extent * scale)) for extent in (image.shape[1], image.shape[0]))
        return AlignedFace(image=_shrink(image, (width, height)), to_original=_scaling(image, (width, height)))
    box = _largest_face(image)
    if box is None:
        return None
    left, top, side = box
    crop_side = side * _CROP_PER_BOX
    origin_x = left + side / 2 - _BOX_CENTER_XY[0] * crop_side
    origin_y = top + side / 2 - _BOX_CENTER_XY[1] * crop_side
    scale = crop_side / size
    # Pixel centres: crop pixel 0 lies half a crop pixel inside the crop.
    to_original = np.array([[scale, 0.0, origin_x + scale / 2 - 0.5], [0.0, scale, origin_y + scale / 2 - 0.5]])
    blurred = cv2.GaussianBlur(image, (0, 0), 0.5 * (scale - 1.0)) if scale > 1.2 else image
    crop = cv2.warpAffine(
        blurred,
        to_original,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return AlignedFace(image=crop, to_original=to_original)


def to_original_frame(
    aligned: Float[np.ndarray, "h w"],
    to_original: Float64[np.ndarray, "2 3"],
    original_size: tuple[int, int],
    *,
    outside: float = 0.0,
) -> Float32[np.ndarray, "height width"]:
    """Bring a map (probabilities, a face mask as 0 and 1) from the aligned to the original frame.

    Args:
        aligned: (h, w) values in the aligned frame.
        to_original: of `AlignedFace`.
        original_size: (height, width) of the photograph.
        outside: value where the crop does not reach.
    """
    height, width = original_size
    values = np.ascontiguousarray(aligned, dtype=np.float32)
    if values.shape == original_size and np.allclose(to_original, [[1, 0, 0], [0, 1, 0]]):
        return values
    # Half a crop pixel lies between the outermost pixel centres and the edge of the crop: the map goes on there, so
    # that it does not fade out along the edges of the picture.
    warped = cv2.warpAffine(
        values, to_original, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    reached = cv2.warpAffine(
        np.ones(values.shape, dtype=np.uint8), to_original, (width, height), flags=cv2.INTER_NEAREST
    )
    return np.where(reached > 0, warped, np.float32(outside)).astype(np.float32)


def _shrink(image: np.ndarray, size_xy: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    if image.shape[1::-1] == size_xy:
        return image
    smaller = size_xy[0] < image.shape[1]
    return cv2.resize(image, size_xy, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _scaling(image: np.ndarray, size_xy: tuple[int, int]) -> Float64[np.ndarray, "2 3"]:
    scale_x, scale_y = image.shape[1] / size_xy[0], image.shape[0] / size_xy[1]
    return np.array([[scale_x, 0.0, scale_x / 2 - 0.5], [0.0, scale_y, scale_y / 2 - 0.5]])


def _largest_face(image: np.ndarray) -> tuple[float, float, float] | None:
    """Return (left, top, side) of the largest detection in pixels of the photograph."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrink = min(1.0, _SEARCH_SIDE / max(gray.shape))
    small = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else gray
    least, most = max(24, int(_MIN_FACE_SHARE * max(small.shape))), min(small.shape)
    if least > most:
        return None
    boxes = _cascade().detect_multi_scale(
        img=small, scale_factor=1.1, step_ratio=1, min_size=(least, least), max_size=(most, most)
    )
    if not boxes:
        return None
    # Ties go to the upper left, so that the order of detections does not matter.
    best = max(boxes, key=lambda box: (box["width"], -box["r"], -box["c"]))
    return best["c"] / shrink, best["r"] / shrink, best["width"] / shrink


@cache
def _cascade() -> Cascade:
    return Cascade(lbp_frontal_face_cascade_filename())
