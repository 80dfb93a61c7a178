"""All metrics of one image: the row that `evaluate` writes per image and `summary.py` reads."""

import math

import numpy as np

from s3pot.metrics.abstention import false_positive_area
from s3pot.metrics.boundary import boundary_iou, boundary_score
from s3pot.metrics.mask_checks import BoolImage, TokenIds, require_bool_images
from s3pot.metrics.occlusion_iou import (
    foreground_background_iou,
    occlusion_overlaps,
    share_of_truth_outside_face_mask,
)
from s3pot.metrics.prompt_quality import prompt_quality, token_share
from s3pot.metrics.truth_shape import thin_share

# Averaged over occluded images.
OCCLUDED_METRICS = (
    "iou_face_mask",
    "iou_region",
    "iou_unclipped",
    "precision",
    "recall",
    "boundary_f",
    "boundary_iou",
    "fb_iou",
    "truth_outside_face_mask",
    "prompt_precision",
    "prompt_recall",
    "face_prompt_precision",
    "face_prompt_recall",
)
METRIC_COLUMNS = (
    *OCCLUDED_METRICS,
    "intersection",
    "union",
    "truth_pixels",
    "truth_share",
    "thin_share",
    "false_positive_area",
    "occlusion_score",
    "occlusion_prompt_count",
    "face_prompt_count",
)


def measure_image(
    predicted_occlusion: BoolImage,
    predicted_face_mask: BoolImage,
    *,
    true_occlusion: BoolImage | None,
    true_region: BoolImage | None,
    occlusion_score: float = math.nan,
    occlusion_prompts: TokenIds | None = None,
    face_prompts: TokenIds | None = None,
    token_grid: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Compute all metrics of one image; all masks are (H, W) bool in one frame.

    Args:
        predicted_occlusion: the prediction, before clipping and before abstention.
        predicted_face_mask: the face as the system found it.
        true_occlusion: the occluder; all False for a face known to be free; None when truth is unknown (every metric
            that needs it is NaN).
        true_region: R; None when there are no clean labels, and `true_occlusion` is then taken as drawn inside the
            face.
        occlusion_score: image-level score, higher for occluded faces.
        occlusion_prompts: (N,) full-grid ids; None leaves the prompt metrics NaN.
        face_prompts: (M,) full-grid ids.
        token_grid: (h, w) of the ids; needed with prompts.

    Returns:
        `METRIC_COLUMNS` -> value; NaN where undefined. `intersection` and `union` are those of the headline clipping,
        as are the boundary metrics and FB-IoU. `truth_share` is the percentage of the face (R, or without clean labels
        the predicted face with the truth) that is truly occluded, `thin_share` that of `truth_shape.py`.

    Raises:
        ValueError: wrong dtype, differing shapes, or prompts without a grid.
    """
    require_bool_images(predicted_occlusion=predicted_occlusion, predicted_face_mask=predicted_face_mask)
    row = dict.fromkeys(METRIC_COLUMNS, math.nan)
    row["occlusion_score"] = float(occlusion_score)
    row["occlusion_prompt_count"] = math.nan if occlusion_prompts is None else float(occlusion_prompts.size)
    row["face_prompt_count"] = math.nan if face_prompts is None else float(face_prompts.size)
    if true_occlusion is None:
        return row
    region = np.ones_like(predicted_face_mask) if true_region is None else true_region
    require_bool_images(predicted_occlusion=predicted_occlusion, true_occlusion=true_occlusion, true_region=region)
    row |= _mask_metrics(predicted_occlusion, predicted_face_mask, true_occlusion, region)
    if true_region is None:
        row["iou_region"] = math.nan
        region = predicted_face_mask | true_occlusion
    face_pixels = int(np.count_nonzero(region))
    row["truth_share"] = 100.0 * row["truth_pixels"] / face_pixels if face_pixels else math.nan
    row["thin_share"] = thin_share(true_occlusion & region, face_pixels)
    if occlusion_prompts is not None or face_prompts is not None:
        if token_grid is None:
            raise ValueError("token_grid is needed to place prompts; got None")
        row |= _prompt_metrics(
            occlusion_prompts, face_prompts, predicted_face_mask, true_occlusion & region, region, token_grid
        )
    return row


def _mask_metrics(
    predicted_occlusion: BoolImage, predicted_face_mask: BoolImage, true_occlusion: BoolImage, region: BoolImage
) -> dict[str, float]:
    overlaps = occlusion_overlaps(
        predicted_occlusion, predicted_face_mask, true_occlusion=true_occlusion, true_region=region
    )
    truth, clipped = true_occlusion & region, predicted_occlusion & predicted_face_mask
    return {
        "iou_face_mask": overlaps.face_mask.iou,
        "iou_region": overlaps.region.iou,
        "iou_unclipped": overlaps.unclipped.iou,
        "intersection": float(overlaps.face_mask.intersection),
        "union": float(overlaps.face_mask.union),
        "precision": overlaps.face_mask.precision,
        "recall": overlaps.face_mask.recall,
        "boundary_f": boundary_score(clipped, truth).f,
        "boundary_iou": boundary_iou(clipped, truth),
        "fb_iou": foreground_background_iou(clipped, truth),
        "truth_pixels": float(overlaps.face_mask.truth),
        "false_positive_area": false_positive_area(predicted_occlusion, predicted_face_mask, true_occlusion=truth),
        "truth_outside_face_mask": share_of_truth_outside_face_mask(
            predicted_face_mask, true_occlusion=true_occlusion, true_region=region
        ),
    }


def _prompt_metrics(
    occlusion_prompts: TokenIds | None,
    face_prompts: TokenIds | None,
    predicted_face_mask: BoolImage,
    truth: BoolImage,
    region: BoolImage,
    token_grid: tuple[int, int],
) -> dict[str, float]:
    face_share = token_share(predicted_face_mask, token_grid)
    metrics: dict[str, float] = {}
    if occlusion_prompts is not None:
        quality = prompt_quality(occlusion_prompts, true_share=token_share(truth, token_grid), face_share=face_share)
        # As with the masks: without truth there is no precision of occlusion, only false positives.
        metrics["prompt_precision"] = quality.precision if truth.any() else math.nan
        metrics["prompt_recall"] = quality.recall
    if face_prompts is not None:
        visible_share = token_share(region & ~truth, token_grid)
        quality = prompt_quality(face_prompts, true_share=visible_share, face_share=face_share)
        metrics["face_prompt_precision"] = quality.precision
        metrics["face_prompt_recall"] = quality.recall
    return metrics
