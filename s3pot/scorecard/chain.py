"""How well the whole chain marks occluders, and how often it marks a face without any.

The headline is the mean over occluder kinds with at least 10 cut-outs (`s3pot.metrics.summary`); the mean over all
images stands beside it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from torch import nn

from s3pot.ladder import LadderImage, Rung
from s3pot.metrics import (
    AREA_LIMIT_PERCENT,
    Summary,
    cluster_bootstrap_ratio,
    false_positive_area,
    summarise,
)
from s3pot.prediction import predict_occlusion
from s3pot.prefix import FrozenPrefix
from s3pot.sam.promptable import PromptableSam
from s3pot.scorecard.ceiling import ceiling_of_occlusion
from s3pot.scorecard.estimates import Estimate, from_interval, mean_of
from s3pot.scorecard.targets import occluded
from s3pot.seeding import generator

RUNGS: tuple[Rung, ...] = ("chain", "clean_reference", "true_prompts")
"""What the scorecard needs of the ladder."""
_BATCH = 16


def measure_clean_faces(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    manifest: pd.DataFrame,
    prefix: FrozenPrefix,
    reweighter: nn.Module | None,
) -> pd.DataFrame:
    """Run the chain on faces known to be free.

    Args:
        images: aligned faces without occluder, long side equal to the working size.
        manifest: one row per image, in order: id, face_id, and kind, which is "decoy" for a face with a seam.
        prefix: the frozen prefix.
        reweighter: trained head; None decodes the prompts as they are.

    Returns:
        One row per face: id, kind, face_id, occlusion_score, false_positive_area in percent of the predicted face (0
        where no face was found: nothing is marked then).
    """
    rows = []
    for first in range(0, len(images), _BATCH):
        batch = slice(first, first + _BATCH)
        known = manifest[["id", "kind", "face_id"]][batch].to_dict("records")
        stages = prefix.run(images[batch], [row["id"] for row in known])
        masks = [stage.face_mask for stage in stages]
        predictions = predict_occlusion(prefix.sam, reweighter, [stage.record() for stage in stages], masks)
        for row, mask, prediction in zip(known, masks, predictions, strict=True):
            area = false_positive_area(prediction.occlusion, mask) if mask.any() else 0.0
            rows.append(row | {"occlusion_score": prediction.score, "false_positive_area": area})
    return pd.DataFrame(rows)


def estimate_clean_faces(table: pd.DataFrame, threshold: float, seed: int = 0) -> dict[str, Estimate]:
    """Return the share of faces with more than 1 % false-positive area, abstaining below the threshold and never.

    Faces with a seam ("decoy") are counted by themselves. A threshold of -inf or 0 never abstains.
    """
    marked = (table["false_positive_area"] > AREA_LIMIT_PERCENT).astype(float)
    shown = marked.where(table["occlusion_score"] >= threshold, 0.0)
    counted, decoy = table.assign(marked=marked, shown=shown), table["kind"] == "decoy"
    note = f"abstaining below a score of {threshold:.4g}" if threshold > 0 else "never abstaining"
    found = {
        "chain/clean_marked": mean_of(counted[~decoy], "shown", seed, note),
        "chain/clean_marked_always": mean_of(counted[~decoy], "marked", seed),
        "chain/decoy_marked": mean_of(counted[decoy], "shown", seed, note),
    }
    return {key: estimate for key, estimate in found.items() if estimate.n}


def measure_chain_ceilings(images: Sequence[LadderImage], sam: PromptableSam) -> pd.DataFrame:
    """Return the decoder's ceiling on the truth inside R: id, kind, face_id, cutout_id, iou."""
    names = ("id", "kind", "face_id", "cutout_id")
    rows = [
        {name: getattr(entry.row, name) for name in names}
        | {"iou": ceiling_of_occlusion(entry.truth.occlusion, entry.truth.region, sam)}
        for entry in occluded(images)
        if entry.truth.occlusion is not None and entry.truth.region is not None
    ]
    return pd.DataFrame(rows, columns=[*names, "iou"])


def estimate_chain(ladder: pd.DataFrame, ceilings: pd.DataFrame, head: str, seed: int = 0) -> dict[str, Estimate]:
    """Return the chain's IoU and its ratio to prompts from truth.

    Args:
        ladder: table of `s3pot.ladder.climb` with the rungs `chain` and `true_prompts`; the latter with head "none".
        ceilings: of `measure_chain_ceilings` on the same composites.
        head: name of the head in the table.
        seed: of the intervals.
    """
    chain = ladder[(ladder["rung"] == "chain") & (ladder["head"] == head)]
    oracle = ladder[(ladder["rung"] == "true_prompts") & (ladder["head"] == "none")]
    found = estimate_evaluation(chain, "chain/iou", seed, ceilings)
    both = chain[chain["truth_pixels"] > 0].merge(oracle[["id", "iou_face_mask"]], on="id", suffixes=("", "_oracle"))
    if len(both):
        found["chain/true_prompts"] = mean_of(both, "iou_face_mask_oracle", seed, "prompts as they are, no head")
        ratio = cluster_bootstrap_ratio(
            both["iou_face_mask"].to_numpy(),
            both["iou_face_mask_oracle"].to_numpy(),
            both["face_id"].tolist(),
            both["cutout_id"].tolist(),
            rng=generator(seed, "scorecard", "ratio"),
        )
        found["chain/ratio"] = from_interval(ratio, "over all occluded images")
    return found


def read_evaluation(path: Path) -> pd.DataFrame:
    """Read the per-image table of an `evaluate` or `overfit` run: the file, or the run's folder.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is no such table.
    """
    file = path / "per_image.parquet" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such table; name the folder of an evaluate or overfit run")
    table = pd.read_parquet(file)
    missing = {"id", "status", "kind", "face_id", "truth_pixels", "iou_face_mask"} - set(table.columns)
    if missing:
        raise ValueError(f"{file}: not the per-image table of an evaluation: {', '.join(sorted(missing))} missing")
    return table


def estimate_evaluation(
    table: pd.DataFrame, key: str, seed: int = 0, ceilings: pd.DataFrame | None = None
) -> dict[str, Estimate]:
    """Return `<key>` (headline; absent where no kind has enough cut-outs) and `<key>_all` of a per-image table."""
    if not (table["truth_pixels"] > 0).any():
        return {}
    summary = summarise(table, seed=seed)
    overall = from_interval(summary.value("iou_face_mask", scope="overall"), _counted(summary))
    found = {f"{key}_all": _below(overall, ceilings, None)}
    headline = summary.value("iou_face_mask", scope="headline")
    if not math.isnan(headline.mean):
        kinds = summary.headline_kinds
        found[key] = _below(from_interval(headline, f"mean over {', '.join(kinds)}"), ceilings, kinds)
    return found


def _counted(summary: Summary) -> str:
    failed = summary.counts["failed"]
    return f"{failed} failed" if failed else ""


def _below(estimate: Estimate, ceilings: pd.DataFrame | None, kinds: tuple[str, ...] | None) -> Estimate:
    if ceilings is None:
        return estimate
    if kinds is None:
        best = float(ceilings["iou"].mean())
    else:
        best = float(ceilings[ceilings["kind"].isin(kinds)].groupby("kind")["iou"].mean().mean())
    return estimate.with_ceiling(Estimate(mean=best))
