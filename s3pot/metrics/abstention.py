"""Faces without an occluder: false-positive area, the image-level score, and when to abstain.

A system that runs over a million faces, most of them free, is judged first by what it paints on those. Areas are in
percent of the predicted face. The image-level score is higher for occluded faces; a prediction is shown where
`score >= threshold` and abstained below.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3pot.metrics.mask_checks import BoolImage, require_bool_images

# A face counts as wrongly marked above this area, in percent of the predicted face.
AREA_LIMIT_PERCENT = 1.0


@dataclass(frozen=True, kw_only=True)
class AbstentionChoice:
    """A threshold chosen on dev faces, with what it does there."""

    threshold: float
    """Abstain below it; -inf: never abstain."""
    share_marked: float
    """Share of the unoccluded faces above the area limit once faces below the threshold are abstained."""
    share_marked_before: float
    """The same share without abstention."""
    faces: int
    """Number of unoccluded faces the choice rests on."""


def false_positive_area(
    predicted_occlusion: BoolImage, predicted_face_mask: BoolImage, *, true_occlusion: BoolImage | None = None
) -> float:
    """Return the falsely predicted occlusion inside the predicted face, in percent of that face.

    Args:
        predicted_occlusion: (H, W) bool.
        predicted_face_mask: (H, W) bool.
        true_occlusion: (H, W) bool; None for a face without an occluder, where every predicted pixel is false.

    Returns:
        Percent in [0, 100]; NaN when the predicted face is empty.

    Raises:
        ValueError: wrong dtype, or the shapes differ.
    """
    require_bool_images(predicted_occlusion=predicted_occlusion, predicted_face_mask=predicted_face_mask)
    false = predicted_occlusion & predicted_face_mask
    if true_occlusion is not None:
        require_bool_images(predicted_occlusion=predicted_occlusion, true_occlusion=true_occlusion)
        false = false & ~true_occlusion
    face_pixels = int(np.count_nonzero(predicted_face_mask))
    return 100.0 * int(np.count_nonzero(false)) / face_pixels if face_pixels else math.nan


def share_above(areas_percent: npt.ArrayLike, *, limit_percent: float = AREA_LIMIT_PERCENT) -> float:
    """Return the share of faces whose false-positive area exceeds the limit; NaN without faces.

    Raises:
        ValueError: an area is NaN.
    """
    areas = _numbers("areas_percent", areas_percent)
    return float(np.mean(areas > limit_percent)) if areas.size else math.nan


def auroc(occluded_scores: npt.ArrayLike, clean_scores: npt.ArrayLike) -> float:
    """Return the probability that an occluded face scores higher than an unoccluded one, ties counted half.

    The Mann-Whitney statistic over the number of pairs, in exact integer counts.

    Returns:
        A number in [0, 1]; NaN when one of the groups is empty.

    Raises:
        ValueError: a score is NaN.
    """
    occluded = _numbers("occluded_scores", occluded_scores)
    clean = np.sort(_numbers("clean_scores", clean_scores))
    if not occluded.size or not clean.size:
        return math.nan
    below = np.searchsorted(clean, occluded, side="left")
    below_or_equal = np.searchsorted(clean, occluded, side="right")
    return int(below.sum() + below_or_equal.sum()) / (2 * occluded.size * clean.size)


def false_positive_rate(clean_scores: npt.ArrayLike, threshold: float) -> float:
    """Return the share of unoccluded faces that are not abstained (`score >= threshold`); NaN without faces.

    Raises:
        ValueError: a score is NaN.
    """
    scores = _numbers("clean_scores", clean_scores)
    return float(np.mean(scores >= threshold)) if scores.size else math.nan


def choose_abstention_threshold(
    clean_scores: npt.ArrayLike,
    areas_percent: npt.ArrayLike,
    *,
    max_share: float,
    limit_percent: float = AREA_LIMIT_PERCENT,
) -> AbstentionChoice:
    """Choose the smallest threshold that leaves at most `max_share` of the unoccluded faces wrongly marked.

    A face is wrongly marked when its score reaches the threshold and its false-positive area exceeds the limit. Use
    dev faces: this is a choice made with truth.

    Args:
        clean_scores: image-level score per unoccluded face.
        areas_percent: false-positive area of the same faces, before abstention.
        max_share: allowed share of wrongly marked faces, in [0, 1].
        limit_percent: area above which a face is wrongly marked.

    Raises:
        ValueError: no faces, different lengths, NaN, or `max_share` outside [0, 1].
    """
    scores, areas = _numbers("clean_scores", clean_scores), _numbers("areas_percent", areas_percent)
    if scores.shape != areas.shape or not scores.size:
        raise ValueError(f"expected one score and one area per face; got {scores.shape} and {areas.shape}")
    if not 0.0 <= max_share <= 1.0:
        raise ValueError(f"max_share must be in [0, 1]; got {max_share}")
    marked_scores = np.sort(scores[areas > limit_percent])[::-1]
    allowed = int(np.count_nonzero(np.arange(1, scores.size + 1) / scores.size <= max_share))
    # Just above the score of the first marked face that is one too many; ties with it are abstained too.
    threshold = float(np.nextafter(marked_scores[allowed], np.inf)) if marked_scores.size > allowed else -math.inf
    return AbstentionChoice(
        threshold=threshold,
        share_marked=int(np.count_nonzero(marked_scores >= threshold)) / scores.size,
        share_marked_before=marked_scores.size / scores.size,
        faces=int(scores.size),
    )


def _numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return a 1-D float array without NaN, or say what came."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or np.isnan(array).any():
        raise ValueError(f"{name} must be one number per face; got shape {array.shape}, {np.isnan(array).sum()} NaN")
    return array
