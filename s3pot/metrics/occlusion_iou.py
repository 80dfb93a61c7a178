"""Overlap of predicted and true face occlusion: IoU, precision, recall.

The paper [S3POT §4] does not say where its occlusion IoU is counted. Here truth is the occluder inside the true face
region R (`face_region.py`) and the prediction is read in three ways:

- `face_mask`: clipped to the *predicted* face mask. The headline; the same clipping for every method.
- `region`: clipped to R, so that errors of the face outline do not count.
- `unclipped`: as it came.

Empty cases. An image without true occlusion has no IoU, precision or recall: all three are NaN, whether or not
something was predicted; such images are judged by their false-positive area (`abstention.py`). With truth but an empty
prediction IoU and recall are 0, and precision is NaN, because nothing was claimed. Means say how many images they
used.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3pot.metrics.face_region import truth_inside_region
from s3pot.metrics.mask_checks import BoolImage, require_bool_images


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Pixel counts of one prediction against one truth."""

    intersection: int
    union: int
    predicted: int
    truth: int

    @property
    def iou(self) -> float:
        """Intersection over union; NaN without truth."""
        return self.intersection / self.union if self.truth else math.nan

    @property
    def precision(self) -> float:
        """Share of the predicted pixels that are true; NaN without truth or without prediction."""
        return self.intersection / self.predicted if self.truth and self.predicted else math.nan

    @property
    def recall(self) -> float:
        """Share of the true pixels that are predicted; NaN without truth."""
        return self.intersection / self.truth if self.truth else math.nan


@dataclass(frozen=True, kw_only=True)
class ClippedOverlaps:
    """The three readings of one prediction."""

    face_mask: Overlap
    region: Overlap
    unclipped: Overlap


@dataclass(frozen=True, kw_only=True)
class DefinedMean:
    """Mean over the images where a metric is defined."""

    mean: float
    used: int
    undefined: int


def count_overlap(predicted: BoolImage, truth: BoolImage) -> Overlap:
    """Count one prediction (H, W) bool against one truth (H, W) bool, both True where occluded.

    Raises:
        ValueError: wrong dtype, or the two shapes differ.
    """
    require_bool_images(predicted=predicted, truth=truth)
    return Overlap(
        intersection=int(np.count_nonzero(predicted & truth)),
        union=int(np.count_nonzero(predicted | truth)),
        predicted=int(np.count_nonzero(predicted)),
        truth=int(np.count_nonzero(truth)),
    )


def occlusion_overlaps(
    predicted_occlusion: BoolImage,
    predicted_face_mask: BoolImage,
    *,
    true_occlusion: BoolImage,
    true_region: BoolImage,
) -> ClippedOverlaps:
    """Count the overlap of prediction and truth in the three clippings.

    Args:
        predicted_occlusion: (H, W) bool.
        predicted_face_mask: (H, W) bool, the face as the system found it.
        true_occlusion: (H, W) bool, the occluder; it is clipped to `true_region` here.
        true_region: (H, W) bool, R.

    Raises:
        ValueError: wrong dtype, or the shapes differ.
    """
    require_bool_images(
        predicted_occlusion=predicted_occlusion,
        predicted_face_mask=predicted_face_mask,
        true_occlusion=true_occlusion,
        true_region=true_region,
    )
    truth = truth_inside_region(true_occlusion, true_region)
    return ClippedOverlaps(
        face_mask=count_overlap(predicted_occlusion & predicted_face_mask, truth),
        region=count_overlap(predicted_occlusion & true_region, truth),
        unclipped=count_overlap(predicted_occlusion, truth),
    )


def share_of_truth_outside_face_mask(
    predicted_face_mask: BoolImage, *, true_occlusion: BoolImage, true_region: BoolImage
) -> float:
    """Return the share of the true occlusion that lies outside the predicted face mask, in [0, 1]; NaN without truth.

    One minus it bounds the headline recall: an occluder that the parser takes out of the face cannot be found.

    Raises:
        ValueError: wrong dtype, or the shapes differ.
    """
    require_bool_images(predicted_face_mask=predicted_face_mask, true_occlusion=true_occlusion, true_region=true_region)
    truth = truth_inside_region(true_occlusion, true_region)
    truth_pixels = int(np.count_nonzero(truth))
    return int(np.count_nonzero(truth & ~predicted_face_mask)) / truth_pixels if truth_pixels else math.nan


def foreground_background_iou(predicted: BoolImage, truth: BoolImage) -> float:
    """Return FB-IoU: the mean of the IoU of what is occluded and of the IoU of everything else in the picture.

    As few-shot segmentation reports it, but per image. The rest of a picture is large and easy: a useless prediction
    has about one half (random prompts 0.55 on dev); the number only serves comparison with papers that print it.

    Returns:
        A number in [0, 1]; NaN without truth. With truth over the whole picture the rest agrees if nothing is left.

    Raises:
        ValueError: wrong dtype, or the two shapes differ.
    """
    occluded, rest = count_overlap(predicted, truth), count_overlap(~predicted, ~truth)
    return (occluded.iou + (rest.intersection / rest.union if rest.union else 1.0)) / 2


def mean_of_defined(per_image: npt.ArrayLike) -> DefinedMean:
    """Average a per-image metric over the images where it is defined (not NaN).

    Returns:
        The mean (NaN when no image is defined) with the number of images used and left out.
    """
    values = np.asarray(per_image, dtype=np.float64)
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if defined.size else math.nan
    return DefinedMean(mean=mean, used=int(defined.size), undefined=int(values.size - defined.size))


def pooled_iou(intersections: npt.ArrayLike, unions: npt.ArrayLike) -> float:
    """Return the sum of intersections over the sum of unions: large occlusions weigh more than in the mean.

    Every image passed counts, so pass images with truth only, as the mean does; the false positives of an image
    without truth would enter the union.

    Returns:
        The pooled IoU; NaN when all unions are 0.

    Raises:
        ValueError: different lengths, a negative or non-finite count, or an intersection larger than its union.
    """
    intersection = np.asarray(intersections, dtype=np.float64)
    union = np.asarray(unions, dtype=np.float64)
    if intersection.shape != union.shape or intersection.ndim != 1:
        raise ValueError(f"expected two lists of counts of one length; got {intersection.shape} and {union.shape}")
    if not np.all((intersection >= 0) & (intersection <= union) & np.isfinite(union)):
        raise ValueError("expected finite counts with 0 <= intersection <= union for every image")
    total = float(union.sum())
    return float(intersection.sum()) / total if total else math.nan
