"""How thin an occluder is: the paper names fine occlusions, such as hair, as a limit of its method [S3POT §5].

A pixel of the truth is thin when no disc of a certain diameter that contains it fits into the truth: what a
morphological opening takes away. The diameter is 4 % of the side of a square as large as the face, about 6 mm on an
adult; 6 px where a face fills a picture of 256 px. An occluder of which more than half is thin (a spectacle rim, a
strap, a strand of hair) is `fine`. The truth is what lies inside the face: the rim of a large thing that reaches in is
thin, too. At 256 px single hairs are not visible, and no set here holds any.
"""

import math

import numpy as np
from scipy import ndimage

from s3pot.metrics.mask_checks import BoolImage, require_bool_images

FINE_OF_FACE_SIDE = 0.04


def thin_share(truth: BoolImage, face_pixels: int) -> float:
    """Return the share of the truth that is thin, in [0, 1]; NaN without truth or face.

    Args:
        truth: (H, W) bool, the occluder inside the face. The frame ends the picture, not the occluder: what touches it
            goes on outside.
        face_pixels: area of the face in pixels.

    Raises:
        ValueError: `truth` is not a bool image.
    """
    require_bool_images(truth=truth)
    area = int(np.count_nonzero(truth))
    if not area or not face_pixels:
        return math.nan
    radius = max(1.0, FINE_OF_FACE_SIDE * math.sqrt(face_pixels) / 2)
    margin = math.ceil(radius) + 1
    rows, cols = np.nonzero(truth)
    # Far from the truth nothing can happen; a photograph of 20 megapixels need not be gone through.
    window = truth[_around(rows, margin), _around(cols, margin)]
    padded = np.pad(window, margin, mode="edge")
    centres = ndimage.distance_transform_edt(padded) > radius
    if not centres.any():
        return 1.0
    thick = padded & (ndimage.distance_transform_edt(~centres) <= radius)
    return 1.0 - int(np.count_nonzero(thick[margin:-margin, margin:-margin] & window)) / area


def _around(places: np.ndarray, margin: int) -> slice:
    return slice(max(0, int(places.min()) - margin), int(places.max()) + margin + 1)
