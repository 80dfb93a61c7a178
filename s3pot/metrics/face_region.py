"""The face region R in which occlusion is counted, and the truth inside it.

R = lip, eyebrows, eyes, nose, skin and mouth of the *clean* labels (the labels of the face without the occluder),
holes filled. Ears, hair and neck are outside. Truth is the occluder inside R, always; what an object covers beside the
face is no face occlusion.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from s3pot.metrics.mask_checks import BoolImage, require_bool_images
from s3pot.parsing.classes import CLASSES, face_mask


def face_region(clean_parsing: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Compute R from the parsing of the face without its occluder.

    A hole is an area outside the face classes from which no path of horizontal and vertical steps leads to the frame
    (spectacles worn in the clean picture, a stray label); it belongs to R.

    Args:
        clean_parsing: (H, W) uint8, 12 classes.

    Returns:
        (H, W) bool, True inside R.

    Raises:
        ValueError: an id above the 12 classes.
    """
    if clean_parsing.size and int(clean_parsing.max()) >= len(CLASSES):
        raise ValueError(f"parsing ids run from 0 to {len(CLASSES) - 1}; got {int(clean_parsing.max())}")
    filled: BoolImage = ndimage.binary_fill_holes(face_mask(clean_parsing))
    return filled


def truth_inside_region(occluder: BoolImage, region: BoolImage) -> BoolImage:
    """Return the true occlusion (H, W) bool: the occluder clipped to R.

    Raises:
        ValueError: wrong dtype, or the two shapes differ.
    """
    require_bool_images(occluder=occluder, region=region)
    return occluder & region
