"""How good a reference is, without asking the chain: the Quality Score of [S3POT 4.3].

    score = (landmark confidence of the reference inside the occlusion + SSIM of what is visible) / 2

Where a landmark is *expected* must not depend on the picture that is judged. Clean labels say so for composites: the
detector's heat is then read at the same places in the reference and in the occluded picture. Without labels only the
reference's own peaks are left: a part that it failed to draw has its peak somewhere else and drops out of the mean, so
that number flatters the reference and `positions_from` says which one it is. The parsing is never asked: it is drawn
into the reference, which would then be judged by its own plan.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from scipy.ndimage import binary_erosion
from skimage.metrics import structural_similarity

from s3pot.metrics.mask_checks import BoolImage, require_bool_images
from s3pot.reference.landmarks import LandmarkDetector, confidence_at, landmark_heat, peak_positions

# Side of SSIM's window. Windows that reach into the occlusion say nothing about what is visible.
_WINDOW = 7


@dataclass(frozen=True, kw_only=True)
class QualityScore:
    """Quality of one reference; NaN where there is nothing to measure.

    Attributes:
        landmark_confidence: mean confidence of the landmarks inside the occlusion, in the reference, [0, 1].
        landmark_confidence_occluded_image: the same landmarks at the same places in the occluded picture.
        ssim_visible: mean SSIM of reference and picture where nothing lies over the face, [-1, 1].
        score: mean of `landmark_confidence` and `ssim_visible`.
        landmarks: number of landmarks inside the occlusion.
        positions_from: where their places come from, "labels" or "reference" (which flatters the reference).
    """

    landmark_confidence: float
    landmark_confidence_occluded_image: float
    ssim_visible: float
    score: float
    landmarks: int
    positions_from: Literal["labels", "reference"]


def quality_score(
    detector: LandmarkDetector,
    reference: UInt8[np.ndarray, "_ _ 3"],
    image: UInt8[np.ndarray, "_ _ 3"],
    positions: Float64[np.ndarray, "k 2"] | None,
    occlusion: BoolImage,
    region: BoolImage | None = None,
) -> QualityScore:
    """Score one reference.

    Args:
        detector: in eval mode.
        reference: (H, W, 3) uint8 RGB, aligned.
        image: (H, W, 3) uint8 RGB, the occluded picture, same frame.
        positions: `read_landmarks` of the clean labels; None where there are none.
        occlusion: (H, W) bool, what is covered: truth, or a prediction.
        region: (H, W) bool, where SSIM counts, e.g. face region R (an occluder beside the face is in no truth); None =
            everywhere.

    Raises:
        ValueError: if shapes differ.
    """
    region = np.ones_like(occlusion) if region is None else region
    require_bool_images(occlusion=occlusion, region=region)
    if not reference.shape[:2] == image.shape[:2] == occlusion.shape:
        raise ValueError(
            f"reference {reference.shape[:2]}, picture {image.shape[:2]} and occlusion {occlusion.shape} must lie over "
            "one another"
        )
    side = max(image.shape[:2])
    reference_heat, image_heat = landmark_heat(detector, [reference, image])
    expected = peak_positions(reference_heat, side) if positions is None else positions
    covered = _inside(expected, occlusion)
    in_reference = confidence_at(reference_heat, expected, side)[covered]
    in_image = confidence_at(image_heat, expected, side)[covered]
    confidence = float(in_reference.mean()) if covered.any() else math.nan
    similarity = ssim_visible(reference, image, region & ~occlusion)
    return QualityScore(
        landmark_confidence=confidence,
        landmark_confidence_occluded_image=float(in_image.mean()) if covered.any() else math.nan,
        ssim_visible=similarity,
        score=(confidence + similarity) / 2,
        landmarks=int(covered.sum()),
        positions_from="reference" if positions is None else "labels",
    )


def ssim_visible(
    reference: UInt8[np.ndarray, "h w 3"], image: UInt8[np.ndarray, "h w 3"], visible: Bool[np.ndarray, "h w"]
) -> float:
    """Return the mean SSIM over windows of 7 x 7 pixels that are visible as a whole; NaN if there is none."""
    whole = binary_erosion(visible, np.ones((_WINDOW, _WINDOW), dtype=bool))
    if not whole.any():
        return math.nan
    _, similarity = structural_similarity(image, reference, win_size=_WINDOW, channel_axis=2, data_range=255, full=True)
    return float(similarity[whole].mean())


def _inside(positions: Float64[np.ndarray, "k 2"], occlusion: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, " k"]:
    height, width = occlusion.shape
    known = np.isfinite(positions).all(axis=1)
    cols, rows = np.rint(np.where(known[:, None], positions, -1.0)).astype(int).T
    known &= (cols >= 0) & (cols < width) & (rows >= 0) & (rows < height)
    inside: Bool[np.ndarray, " k"] = known & occlusion[rows.clip(0, height - 1), cols.clip(0, width - 1)]
    return inside
