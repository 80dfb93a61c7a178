"""The LBP cascade that scikit-image ships: it finds bare frontal faces without any weights of ours.

It labels photographs for the training of the face locator and finds the astronaut of the demo. Photographs of users go
through the locator: the cascade misses faces with masks, hats or hands on them. (OpenCV 5 has no cascade any more.)
"""

from functools import cache

import cv2
import numpy as np
from jaxtyping import UInt8
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade

from s3pot.locator import LocatedFace

# Where the cascade's box lies in an aligned CelebA-HQ face: side of the crop over side of the box, and the centre of
# the box in the crop. Medians over 60 faces of CelebAMask-HQ, all of which were found.
_CROP_PER_BOX = 1.566
_BOX_CENTER_XY = (0.502, 0.551)
_MIN_FACE_SHARE = 0.1
# The cascade's cost grows with the square of this side; faces below 38 px of it are not looked for.
_SEARCH_SIDE = 384


def find_with_cascade(image: UInt8[np.ndarray, "h w 3"]) -> LocatedFace | None:
    """Find the largest bare frontal face.

    Args:
        image: (H, W, 3) uint8 RGB photograph.

    Returns:
        Its upright crop in pixels of the photograph; None when no face was found.
    """
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
    left, top, side = best["c"] / shrink, best["r"] / shrink, best["width"] / shrink
    crop_side = side * _CROP_PER_BOX
    return LocatedFace(
        x=left + side / 2 + (0.5 - _BOX_CENTER_XY[0]) * crop_side - 0.5,
        y=top + side / 2 + (0.5 - _BOX_CENTER_XY[1]) * crop_side - 0.5,
        side=crop_side,
    )


@cache
def _cascade() -> Cascade:
    return Cascade(lbp_frontal_face_cascade_filename())
