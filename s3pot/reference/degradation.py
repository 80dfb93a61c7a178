"""A worse reference on purpose, to see how much the result depends on it [S3POT 4.3, Fig. 10].

The paper relates IoU and quality of the references that its generator happens to draw. Here quality is made to fall in
steps: the reference is blurred, which takes the detail of the face and leaves its shape and colours.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

STRONGEST = 1 / 16
"""Standard deviation of the strongest blur, in long sides of the picture: 16 px at 256 px, about half an eye."""


def degrade_reference(reference: UInt8[np.ndarray, "h w 3"], amount: float) -> UInt8[np.ndarray, "h w 3"]:
    """Blur a reference; 0 gives it back as it is.

    Args:
        reference: aligned picture.
        amount: in [0, 1], share of the strongest blur.
    """
    if amount == 0.0:
        return reference
    blurred = cv2.GaussianBlur(reference, (0, 0), amount * STRONGEST * max(reference.shape[:2]))
    return np.asarray(blurred, dtype=np.uint8)
