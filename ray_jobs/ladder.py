"""Print controls and oracle ladder for a head: which part of the chain limits the result on given composites.

python ray_jobs/ladder.py manifest=runs/data/dev/manifest.parquet head=embedded
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import typer

from ray_jobs.evaluate import head_file
from ray_jobs.job_cli import absolute, job_command, run_alone
from ray_jobs.run_folder import identity, open_run
from ray_jobs.tracking import tracked_run
from s3pot.chain import ChainConfig, chain_identity, load_prefix
from s3pot.config import to_mapping
from s3pot.embedded import file_hash
from s3pot.head.head_file import load_reweighter
from s3pot.ladder import climb, read_ladder_images
from s3pot.metrics import Interval, auroc, cluster_bootstrap_mean, paired_difference
from s3pot.seeding import generator

_log = logging.getLogger("s3pot.ladder")


@dataclass(frozen=True, kw_only=True)
class LadderConfig:
    """What the ladder is climbed on.

    Attributes:
        manifest: composites made by `data`, at the working size.
        head: a trained head's file, `embedded`, or `none` for prompts as they are only.
        chain: models and frozen stages.
        limit: at most this many images; 0 = all.
        seed: of random prompts and intervals.
        runs: folder of all runs and the MLflow database.
    """

    manifest: Path
    head: str = "embedded"
    chain: ChainConfig = field(default_factory=lambda: ChainConfig(alignment="none"))
    limit: int = 0
    seed: int = 0
    runs: Path = Path("runs")


def ladder(config: LadderConfig) -> pd.DataFrame:
    """Climb, print and store the ladder; returns the table of means."""
    manifest = pd.read_parquet(config.manifest)
    manifest = manifest.head(config.limit) if config.limit else manifest
    prefix = load_prefix(config.chain)
    images = read_ladder_images(manifest, prefix.size)
    head = head_file(config.head)
    heads: dict[str, torch.nn.Module | None] = {"none": None}
    if head is not None:
        heads["reweighter"] = load_reweighter(head, prefix.sam.device, chain=config.chain)
    head_hash = "none" if head is None else file_hash(head)
    name = f"{absolute(config.manifest).parent.name}-{identity(config, chain_identity(config.chain), head_hash)}"
    folder = open_run(absolute(config.runs), "ladder", name, config)
    with tracked_run("ladder", name, to_mapping(config), absolute(config.runs)) as tracked:
        table = climb(images, prefix, heads, seed=config.seed)
        table.to_parquet(folder / "per_image.parquet", index=False)
        means = summarise_rungs(table, config.seed)
        means.to_csv(folder / "ladder.csv", index=False)
        tracked.log_artifact(folder / "per_image.parquet")
        tracked.log_artifact(folder / "ladder.csv")
        iou = {f"iou_{row.rung}_{row.head}": float(row.iou) for row in means.itertuples(index=False)}
        tracked.log_metrics({key: value for key, value in iou.items() if math.isfinite(value)})
    typer.echo(
        means.drop(columns=["low", "high", "difference_low", "difference_high"])
        .assign(
            iou=_with_interval(means, "iou", "low", "high"),
            difference=_with_interval(means, "difference", "difference_low", "difference_high"),
        )
        .to_string(index=False, float_format=lambda value: f"{value:.3f}")
    )
    typer.echo(f"({folder})")
    return means


def summarise_rungs(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Average every rung and head: IoU with interval, paired difference, prompts, and how clean faces fare.

    The difference is to the chain with the same head; that of the chain itself is what the head gains.
    """
    rows: list[dict[str, Any]] = []
    for (rung, head), part in table.groupby(["rung", "head"], sort=False):
        occluded, clean = part[part["truth_pixels"] > 0], part[part["truth_pixels"] == 0]
        interval = cluster_bootstrap_mean(
            occluded["iou_face_mask"].to_numpy(),
            occluded["face_id"].to_numpy(),
            occluded["cutout_id"].to_numpy(),
            rng=generator(seed, "ladder/interval", f"{rung}/{head}"),
        )
        baseline = table[(table["rung"] == "chain") & (table["head"] == ("none" if rung == "chain" else head))]
        difference = _difference(occluded, baseline, generator(seed, "ladder/difference", f"{rung}/{head}"))
        rows.append(
            {
                "rung": rung,
                "head": head,
                "iou": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                "difference": difference.mean,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "iou_region": occluded["iou_region"].mean(),
                "prompt_precision": occluded["prompt_precision"].mean(),
                "prompt_recall": occluded["prompt_recall"].mean(),
                "face_iou": part["face_iou"].mean(),
                "clean_area_percent": clean["false_positive_area"].mean(),
                "auroc": auroc(occluded["occlusion_score"], clean["occlusion_score"]) if len(clean) else math.nan,
            }
        )
    return pd.DataFrame(rows)


def _with_interval(means: pd.DataFrame, value: str, low: str, high: str) -> list[str]:
    return [f"{row[value]:.3f} [{row[low]:.3f}, {row[high]:.3f}]" for _, row in means.iterrows()]


def _difference(part: pd.DataFrame, baseline: pd.DataFrame, rng: np.random.Generator) -> Interval:
    ordered = baseline.set_index("id").loc[part["id"]]
    return paired_difference(
        part["iou_face_mask"].to_numpy(),
        ordered["iou_face_mask"].to_numpy(),
        part["face_id"].to_numpy(),
        part["cutout_id"].to_numpy(),
        rng=rng,
    )


command = job_command(LadderConfig, ladder, {"limit": 6}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
