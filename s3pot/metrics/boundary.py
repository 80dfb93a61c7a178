"""How well the outline of a predicted occlusion follows the true one: boundary F-score and boundary IoU.

Boundary F: the convention of the BSDS and DAVIS benchmarks: a boundary pixel counts as found when a boundary pixel of
the other mask lies within a tolerance of 0.75 % of the image diagonal, rounded up to whole pixels (3 px at 256 x 256).
Precision is the share of predicted boundary pixels found in the truth, recall the share of true ones found in the
prediction, F their harmonic mean. Departure: any pixel within the tolerance counts, without the one-to-one assignment
of BSDS (as in DAVIS).

The boundary is the mask's own outermost pixels (4-neighbours). The frame is no boundary: there the picture ends, not
the object.

Boundary IoU (B. Cheng et al., "Boundary IoU", CVPR 2021): IoU of the two masks, each cut down to its pixels within a
distance of its own outline. As in the authors' code (bowenc0221/boundary-iou-api, boundary_iou/utils/boundary_utils.py)
the distance is 2 % of the image diagonal, counted in squares (the larger of rows and columns), and here the frame does
count as outline.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from s3pot.metrics.mask_checks import BoolImage, require_bool_images

TOLERANCE_OF_DIAGONAL = 0.0075
BAND_OF_DIAGONAL = 0.02


@dataclass(frozen=True, kw_only=True)
class BoundaryScore:
    """Boundary precision, recall and their harmonic mean, each in [0, 1] or NaN where undefined."""

    precision: float
    recall: float
    f: float


def inner_boundary(region: BoolImage) -> BoolImage:
    """Return the (H, W) bool pixels of `region` that have a 4-neighbour inside the frame but outside `region`.

    Raises:
        ValueError: `region` is not a bool image.
    """
    require_bool_images(region=region)
    padded = np.pad(region, 1, mode="edge")
    interior = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~interior


def default_tolerance_px(height: int, width: int) -> int:
    """Return the tolerance for an image of this size: 0.75 % of the diagonal, rounded up."""
    return math.ceil(TOLERANCE_OF_DIAGONAL * math.hypot(height, width))


def boundary_score(predicted: BoolImage, truth: BoolImage, *, tolerance_px: float | None = None) -> BoundaryScore:
    """Score the outline of `predicted` against that of `truth`.

    Without truth everything is NaN. With truth but without prediction recall and F are 0 and precision is NaN. Masks
    that both fill the frame have no outline and agree: 1. If only one of the two fills it, nothing matches: 0.

    Args:
        predicted: (H, W) bool.
        truth: (H, W) bool.
        tolerance_px: largest Euclidean distance between pixel centres that counts as found, in px; default
            `default_tolerance_px`.

    Raises:
        ValueError: wrong dtype, different shapes, or a negative tolerance.
    """
    require_bool_images(predicted=predicted, truth=truth)
    tolerance = float(default_tolerance_px(*truth.shape)) if tolerance_px is None else tolerance_px
    if not tolerance >= 0:
        raise ValueError(f"tolerance_px must be at least 0; got {tolerance_px}")
    if not truth.any():
        return BoundaryScore(precision=math.nan, recall=math.nan, f=math.nan)
    if not predicted.any():
        return BoundaryScore(precision=math.nan, recall=0.0, f=0.0)
    if predicted.all() and truth.all():
        return BoundaryScore(precision=1.0, recall=1.0, f=1.0)
    predicted_boundary, true_boundary = inner_boundary(predicted), inner_boundary(truth)
    precision = _share_near(predicted_boundary, true_boundary, tolerance)
    recall = _share_near(true_boundary, predicted_boundary, tolerance)
    total = precision + recall
    return BoundaryScore(precision=precision, recall=recall, f=2 * precision * recall / total if total else 0.0)


def default_band_px(height: int, width: int) -> int:
    """Return the width of the band of boundary IoU for an image of this size: 2 % of the diagonal, at least 1."""
    return max(1, round(BAND_OF_DIAGONAL * math.hypot(height, width)))


def boundary_iou(predicted: BoolImage, truth: BoolImage, *, band_px: int | None = None) -> float:
    """Return the IoU of the bands along the inside of the two outlines, in [0, 1]; NaN without truth.

    Args:
        predicted: (H, W) bool.
        truth: (H, W) bool.
        band_px: width of the bands in px; default `default_band_px`.

    Raises:
        ValueError: wrong dtype, different shapes, or a band below 1.
    """
    require_bool_images(predicted=predicted, truth=truth)
    band = default_band_px(*truth.shape) if band_px is None else band_px
    if band < 1:
        raise ValueError(f"band_px must be at least 1; got {band_px}")
    if not truth.any():
        return math.nan
    first, second = _inner_band(predicted, band), _inner_band(truth, band)
    return int(np.count_nonzero(first & second)) / int(np.count_nonzero(first | second))


def _inner_band(region: BoolImage, band_px: int) -> BoolImage:
    """Return the pixels of the region from which fewer than `band_px` king's moves lead out of it or of the frame."""
    padded = np.pad(region.astype(np.uint8), 1)
    core = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=band_px)[1:-1, 1:-1]
    return region & (core == 0)


def _share_near(boundary: BoolImage, other: BoolImage, tolerance_px: float) -> float:
    """Return the share of `boundary` pixels within the tolerance of a pixel of `other`; 0 when either is empty."""
    if not boundary.any() or not other.any():
        return 0.0
    distance_px = ndimage.distance_transform_edt(~other)
    return float(np.mean(distance_px[boundary] <= tolerance_px))
