"""The example of `s3pot serve`: scikit-image's astronaut (NASA, public domain) behind a drawn microphone."""

from functools import cache

import cv2
import numpy as np
from skimage import data

from s3pot.composite.drawn import drawn_cutouts
from s3pot.images import encode_jpeg

# By eye: the head of the microphone lies at her mouth.
_CENTER_XY, _WIDTH, _DEGREES = (230.0, 170.0), 32.0, -15.0


@cache
def example_photograph() -> bytes:
    """Return the photograph as JPEG, 512 x 512."""
    photograph = data.astronaut()
    cutout = next(cutout.rgba for cutout in drawn_cutouts() if cutout.id == "objects/microphone")
    height, width = cutout.shape[:2]
    scale = _WIDTH / width
    place = cv2.getRotationMatrix2D((width / 2, height / 2), _DEGREES, scale)
    place[:, 2] += np.array(_CENTER_XY) - np.array([width, height]) / 2
    alpha = cutout[..., 3:].astype(np.float32) / 255
    layers = np.dstack([cutout[..., :3] * alpha, alpha])
    # Blurred by what shrinking averages, so that its edge is as sharp as the photograph.
    layers = cv2.GaussianBlur(layers, (0, 0), 0.5 * (1 / scale - 1))
    layers = cv2.warpAffine(layers, place, (photograph.shape[1], photograph.shape[0]))
    covered = photograph * (1 - layers[..., 3:]) + layers[..., :3]
    return encode_jpeg(np.clip(covered, 0, 255).astype(np.uint8))
