"""Masks of a dataset that come as PNG files beside the pictures, with their polarity named."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from s3pot.data.annotation import AnnotationError, FaceAnnotation
from s3pot.images import read_labels

Polarity = Literal["occlusion", "visible_face"]
Mask = Bool[np.ndarray, "h w"]


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Read a mask of 0 and 255 (anything above 127 counts).

    Raises:
        ImageError: if it cannot be read or holds colours.
        AnnotationError: if it has another size, or values that look like numbers of classes.
    """
    values = read_labels(path)
    if values.shape != size:
        raise AnnotationError(f"{path}: a mask of {values.shape} for a picture of {size}: height and width must agree")
    if 0 < int(values.max()) <= 127:
        raise AnnotationError(f"{path}: expected 0 and 255, got values up to {int(values.max())}: is it a label map?")
    return values > 127


def annotation_of(mask: Mask, region: Mask | None, polarity: Polarity) -> FaceAnnotation:
    """Make truth and region of a mask.

    Args:
        mask: what the polarity says.
        region: the face with its occluders; needed for `visible_face`, otherwise None when unknown.
        polarity: `occlusion`: True = occluded; `visible_face`: True = face that can be seen.
    """
    if polarity == "visible_face":
        assert region is not None
        return FaceAnnotation(occlusion=region & ~mask, region=region)
    return FaceAnnotation(occlusion=mask if region is None else mask & region, region=region)
