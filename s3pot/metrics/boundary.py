"""Boundary F-score: how well the outline of a predicted occlusion follows the true one.

The convention of the BSDS and DAVIS benchmarks: a boundary pixel counts as found when a boundary pixel of the other
mask lies within a tolerance of 0.75 % of the image diagonal, rounded up to whole pixels (3 px at 256 x 256). Precision
is the share of predicted boundary pixels found in the truth, recall the share of true ones found in the prediction, F
their harmonic mean. Departure: any pixel within the tolerance counts, without the one-to-one assignment of BSDS (as in
DAVIS).

The boundary is the mask's own outermost pixels (4-neighbours). The frame is no boundary: there the picture ends, not
the object.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from s3pot.metrics.mask_checks import BoolImage, require_bool_images

TOLERANCE_OF_DIAGONAL = 0.0075


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


def _share_near(boundary: BoolImage, other: BoolImage, tolerance_px: float) -> float:
    """Return the share of `boundary` pixels within the tolerance of a pixel of `other`; 0 when either is empty."""
    if not boundary.any() or not other.any():
        return 0.0
    distance_px = ndimage.distance_transform_edt(~other)
    return float(np.mean(distance_px[boundary] <= tolerance_px))
