"""Metrics of the chain: numpy on bool masks, no torch."""

from s3pot.metrics.abstention import (
    AREA_LIMIT_PERCENT,
    AbstentionChoice,
    auroc,
    choose_abstention_threshold,
    false_positive_area,
    false_positive_rate,
    share_above,
)
from s3pot.metrics.boundary import BoundaryScore, boundary_iou, boundary_score, default_tolerance_px, inner_boundary
from s3pot.metrics.face_region import face_region, truth_inside_region
from s3pot.metrics.intervals import (
    Interval,
    cluster_bootstrap_mean,
    cluster_bootstrap_ratio,
    paired_difference,
)
from s3pot.metrics.occlusion_iou import (
    ClippedOverlaps,
    DefinedMean,
    Overlap,
    count_overlap,
    foreground_background_iou,
    mean_of_defined,
    occlusion_overlaps,
    pooled_iou,
    share_of_truth_outside_face_mask,
)
from s3pot.metrics.per_image import METRIC_COLUMNS, OCCLUDED_METRICS, measure_image
from s3pot.metrics.prompt_quality import PromptQuality, prompt_quality, token_share
from s3pot.metrics.slices import slices
from s3pot.metrics.summary import FAILED, ID_COLUMNS, SLICED_METRICS, Summary, summarise
from s3pot.metrics.truth_shape import thin_share

__all__ = [
    "AREA_LIMIT_PERCENT",
    "FAILED",
    "ID_COLUMNS",
    "METRIC_COLUMNS",
    "OCCLUDED_METRICS",
    "SLICED_METRICS",
    "AbstentionChoice",
    "BoundaryScore",
    "ClippedOverlaps",
    "DefinedMean",
    "Interval",
    "Overlap",
    "PromptQuality",
    "Summary",
    "auroc",
    "boundary_iou",
    "boundary_score",
    "choose_abstention_threshold",
    "cluster_bootstrap_mean",
    "cluster_bootstrap_ratio",
    "count_overlap",
    "default_tolerance_px",
    "face_region",
    "false_positive_area",
    "false_positive_rate",
    "foreground_background_iou",
    "inner_boundary",
    "mean_of_defined",
    "measure_image",
    "occlusion_overlaps",
    "paired_difference",
    "pooled_iou",
    "prompt_quality",
    "share_above",
    "share_of_truth_outside_face_mask",
    "slices",
    "summarise",
    "thin_share",
    "token_share",
    "truth_inside_region",
]
