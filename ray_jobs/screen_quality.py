"""How good our own score is as a screen: precision, recall and AUROC with intervals, from evaluations with truth.

    python ray_jobs/screen_quality.py occluded=runs/evaluate/val clean=runs/evaluate/val_clean
    python ray_jobs/screen_quality.py occluded=runs/evaluate/real_dev            (recall alone: nothing there is clean)

Folders are what `evaluate` writes. Precision depends on how common occluded faces are: `shares` names other mixes than
that of the folders. The threshold is where the head stops abstaining, chosen on dev faces, unless another is given.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.results import ResultsError
from ray_jobs.compare import TABLE
from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths
from s3pot.embedded import weights_path
from s3pot.head.head_file import read_abstention_threshold
from s3pot.metrics.intervals import Interval
from s3pot.metrics.screening import ScreenQuality, screen_quality


@dataclass(frozen=True, kw_only=True)
class ScreenQualityConfig:
    """What the screen is judged on.

    Attributes:
        occluded: folder of an evaluation with occluded images; clean ones among them count as such.
        clean: folder of an evaluation of clean images; none = those in `occluded` alone.
        head: file of the head that was evaluated, for its threshold; none = the embedded one.
        threshold: score from which on an image is named; none = where the head stops abstaining.
        shares: shares of occluded images, in (0, 1), that precision is given for besides.
        decoys: count pictures with a seam and no occluder among the clean ones.
        seed: of the intervals.
        out: JSON file to write; none = print only.
    """

    occluded: Path
    clean: Path | None = None
    head: Path | None = None
    threshold: float | None = None
    shares: tuple[float, ...] = (0.05, 0.2)
    decoys: bool = False
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        if not all(0.0 < share < 1.0 for share in self.shares):
            raise ValueError(f"shares must lie between 0 and 1, got {list(self.shares)}")


def judge(config: ScreenQualityConfig) -> ScreenQuality:
    """Judge the screen and print.

    Raises:
        ResultsError: if a table is missing or cannot be judged.
    """
    config = with_absolute_paths(config)
    threshold = config.threshold
    if threshold is None:
        threshold = read_abstention_threshold(config.head or weights_path("reweighter"))
    tables = [_read(folder, config.decoys) for folder in (config.occluded, config.clean) if folder is not None]
    try:
        quality = screen_quality(pd.concat(tables), threshold, seed=config.seed, shares=config.shares)
    except ValueError as error:
        raise ResultsError(f"{config.occluded}: {error}") from error
    lines = as_lines(quality)
    sys.stdout.writelines(f"{name:44s} {_text(value)}\n" for name, value in lines.items())
    if config.out is not None:
        numbers = {name: [value.mean, value.low, value.high, value.n] for name, value in lines.items()}
        config.out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    return quality


def as_lines(quality: ScreenQuality) -> dict[str, Interval]:
    """Name every number."""
    lines = {f"recall at a score of {quality.threshold:.4g}": quality.recall}
    if quality.false_positive_rate.n:
        lines["false-positive rate"] = quality.false_positive_rate
        lines |= {f"precision, {share:.1%} occluded": value for share, value in quality.precision.items()}
        lines["AUROC"] = quality.auroc
    return lines


def _read(folder: Path, decoys: bool) -> pd.DataFrame:
    path = folder / TABLE
    if not path.is_file():
        raise ResultsError(f"{path}: no such table; name a folder that `evaluate` wrote")
    table = pd.read_parquet(path)
    return table if decoys else table[table["kind"] != "decoy"]


def _text(value: Interval) -> str:
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}] n={value.n}"


command = job_command(ScreenQualityConfig, judge, {}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
