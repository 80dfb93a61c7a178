"""What an occlusion mask is worth to a face parser [S3POT Fig. 2a]: its labels with and without our mask.

A parser calls a hand over the cheek skin, and whatever edits or measures faces by its labels goes wrong there. Measured
on composites, whose clean labels and occluders are known, with the parsing of a store and the masks of an evaluation:

- `relabelled`: the right answer of a pixel is its clean label, and *occluded* where the occluder is. The parser's
  labels are compared as they come, and with *occluded* wherever the mask says so. Mean IoU of the six face parts inside
  the face region R, and the share of pixels of R that are right.
- `excluded`: the right answer is the clean label everywhere in R: was the parser right about what it could see? Pixels
  that the mask marks are left out of the count, so the share of R that is kept stands beside the accuracy. Leaving out
  pixels at random would not change it.

The store's parsing is the completed one. The embedded parser parses through occluders on purpose: without a mask it is
wrong on every occluded pixel by `relabelled`, and better than chance there by `excluded`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.results import ResultsError
from s3pot.alignment import to_original_frame
from s3pot.evaluation import mask_path, read_truth
from s3pot.images import decode_png
from s3pot.metrics import Interval, cluster_bootstrap_mean, paired_difference
from s3pot.parsing.classes import CLASSES, FACE_CLASSES
from s3pot.store.prompt_store import PromptStore, stored_parsing, stored_transform

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
OCCLUDED = len(CLASSES)
"""Id of the answer *occluded*."""
_SEED = 0
_MEASURES = ("miou_relabelled", "accuracy_relabelled", "accuracy_excluded")


def measure_parsing(
    parsing: Labels, clean: Labels, occluder: Mask, region: Mask, predicted: Mask | None
) -> dict[str, float]:
    """Measure the labels of one picture.

    Args:
        parsing: (H, W) what the parser says, 12 classes.
        clean: (H, W) labels of the face without the occluder.
        occluder: (H, W) the truth.
        region: (H, W) R.
        predicted: (H, W) the mask that is used; None = none.

    Returns:
        `miou_relabelled` (mean over the face parts that are there or predicted), `accuracy_relabelled`,
        `accuracy_excluded` and `kept`, each in [0, 1] or NaN where nothing is left to count.
    """
    mask = np.zeros_like(region) if predicted is None else predicted
    right = np.where(occluder, OCCLUDED, clean)
    said = np.where(mask, OCCLUDED, parsing)
    kept = region & ~mask
    pixels = int(region.sum())
    return {
        "miou_relabelled": _mean_iou(said[region], right[region]),
        "accuracy_relabelled": float((said == right)[region].mean()) if pixels else np.nan,
        "accuracy_excluded": float((parsing == clean)[kept].mean()) if kept.any() else np.nan,
        "kept": int(kept.sum()) / pixels if pixels else np.nan,
    }


def parsing_table(store: Path, evaluation: Path) -> pd.DataFrame:
    """Measure every occluded picture of a store without a mask, with the masks of an evaluation, and with the truth.

    Args:
        store: of composites with clean labels.
        evaluation: folder with `masks/`, as `evaluate` writes it.

    Returns:
        One row per picture and `mask` (none, predicted, true): id, kind, face_id, cutout_id and the measures.

    Raises:
        ResultsError: if no picture has clean labels and an occluder, or a mask is missing.
    """
    rows: list[dict[str, Any]] = []
    for row in PromptStore(store).rows().itertuples(index=False):
        truth = read_truth(row)
        if row.parsing_path is None or truth.region is None or truth.occlusion is None or row.parsing_png is None:
            continue
        if not (truth.occlusion & truth.region).any():
            continue
        clean = decode_png(Path(row.parsing_path).read_bytes(), row.parsing_path)
        parsing = _in_original_frame(row)
        path = mask_path(evaluation, row.id)
        if not path.is_file():
            raise ResultsError(f"{path}: no such mask: evaluate the same store, and masks are written")
        predicted = decode_png(path.read_bytes(), str(path)) > 127
        known = {name: getattr(row, name) or row.id for name in ("id", "kind", "face_id", "cutout_id")}
        for name, mask in (("none", None), ("predicted", predicted), ("true", truth.occlusion)):
            rows.append({"mask": name, **known, **measure_parsing(parsing, clean, truth.occlusion, truth.region, mask)})
    if not rows:
        raise ResultsError(f"{store}: no picture has clean labels and an occluder; use those of `s3pot data composite`")
    return pd.DataFrame(rows)


def parsing_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a table: mean of every measure with interval, and the paired difference to no mask.

    Returns:
        One row per mask and measure: mask, measure, n, mean, low, high, difference, difference_low, difference_high,
        kept.
    """
    without = table[table["mask"] == "none"].set_index("id")
    rows = []
    for mask, part in table.groupby("mask", sort=False):
        for measure in _MEASURES:
            both = part.assign(before=without[measure].reindex(part["id"]).to_numpy()).dropna(
                subset=[measure, "before"]
            )
            mean, difference = _mean(both, measure), _difference(both, measure)
            rows.append(
                {
                    "mask": mask,
                    "measure": measure,
                    "n": mean.n,
                    "mean": mean.mean,
                    "low": mean.low,
                    "high": mean.high,
                    "difference": difference.mean,
                    "difference_low": difference.low,
                    "difference_high": difference.high,
                    "kept": both["kept"].mean(),
                }
            )
    return pd.DataFrame(rows)


def _mean(rows: pd.DataFrame, measure: str) -> Interval:
    return cluster_bootstrap_mean(
        rows[measure].to_numpy(),
        rows["face_id"].tolist(),
        rows["cutout_id"].tolist(),
        rng=np.random.default_rng(_SEED),
    )


def _difference(rows: pd.DataFrame, measure: str) -> Interval:
    return paired_difference(
        rows[measure].to_numpy(),
        rows["before"].to_numpy(),
        rows["face_id"].tolist(),
        rows["cutout_id"].tolist(),
        rng=np.random.default_rng(_SEED),
    )


def _mean_iou(said: Labels, right: Labels) -> float:
    found = []
    for part in FACE_CLASSES:
        union = int(((said == part) | (right == part)).sum())
        if union:
            found.append(int(((said == part) & (right == part)).sum()) / union)
    return float(np.mean(found)) if found else np.nan


def _in_original_frame(row: Any) -> Labels:
    """Bring the stored parsing to the picture, class by class; where the crop does not reach it is background."""
    parsing, size = stored_parsing(row), (int(row.original_height), int(row.original_width))
    if parsing.shape == size:
        return parsing
    shares = [
        to_original_frame((parsing == label).astype(np.float32), stored_transform(row), size)
        for label in range(len(CLASSES))
    ]
    shares[0] = np.maximum(shares[0], 1e-6)  # nothing reaches it: background
    return np.argmax(shares, axis=0).astype(np.uint8)
