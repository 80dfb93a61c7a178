"""Compare two results on the same images: means and paired differences with intervals, all together and by kind.

    python ray_jobs/compare.py first=runs/evaluate/chain second=runs/evaluate/baseline
    python ray_jobs/compare.py first=runs/ladder/all second=runs/ladder/without-hands apart=hands rung=true_prompts

Results are folders with a `per_image.parquet`, as `evaluate` and `ladder` write them. The difference is second minus
first, per image; intervals resample faces and cut-outs. `clear` says whether the interval excludes 0: then, and only
then, one is called better. There is no p-value: images share faces and cut-outs in two ways at once, so there are no
units whose signs could be exchanged, and a number from turning the interval around would say no more than the interval.
Many groups are many intervals: one in twenty misses.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results import ResultsError
from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths
from s3pot.ladder import Rung
from s3pot.metrics.intervals import paired_difference
from s3pot.seeding import generator

TABLE = "per_image.parquet"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared.

    Attributes:
        first: folder of a result.
        second: folder of another result on the same images.
        metric: column of the tables.
        rung: of a ladder's table.
        head: of a ladder's table.
        apart: a kind of occluder; one more row shows everything else together. None = no such row.
        seed: of the intervals.
    """

    first: Path
    second: Path
    metric: str = "iou_face_mask"
    rung: Rung = "chain"
    head: str = "none"
    apart: str | None = None
    seed: int = 0


def compare(config: CompareConfig) -> pd.DataFrame:
    """Compare and print; returns one row per group: group, n, first, second, difference, low, high, clear.

    Raises:
        ResultsError: if a table is missing, lacks the metric, or the images are not the same.
    """
    config = with_absolute_paths(config)
    first, second = (_read(folder, config) for folder in (config.first, config.second))
    if set(first.index) != set(second.index):
        missing = sorted(set(first.index) ^ set(second.index))
        raise ResultsError(
            f"{config.first} and {config.second} are not on the same images: {len(missing)} are in one alone, "
            f"such as {missing[0]}"
        )
    kinds = first["kind"]
    groups = {"all": kinds.notna()} | {str(kind): kinds == kind for kind in sorted(kinds.unique())}
    if config.apart is not None:
        if config.apart not in groups:
            raise ResultsError(f"no image has the kind {config.apart!r}: choose one of {', '.join(list(groups)[1:])}")
        groups[f"not {config.apart}"] = kinds != config.apart
    rows = [_row(name, first[chosen], second, config) for name, chosen in groups.items()]
    table = pd.DataFrame(rows)
    sys.stdout.write(f"{config.metric}, second - first\n{table.to_string(index=False, float_format='%.3f')}\n")
    return table


def _read(folder: Path, config: CompareConfig) -> pd.DataFrame:
    """Read the rows with truth, by image id."""
    path = folder / TABLE
    if not path.is_file():
        raise ResultsError(f"{path}: no such table; name a folder that `evaluate` or `ladder.py` wrote")
    table = pd.read_parquet(path)
    needed = {"id", "kind", "face_id", "cutout_id", config.metric} - set(table.columns)
    if needed:
        raise ResultsError(f"{path}: lacks {', '.join(sorted(needed))}")
    if "rung" in table.columns:
        table = table[(table["rung"] == config.rung) & (table["head"] == config.head)]
    return table[table["kind"].notna() & table[config.metric].notna()].set_index("id")


def _row(name: str, first: pd.DataFrame, second: pd.DataFrame, config: CompareConfig) -> dict[str, Any]:
    other = second.loc[first.index, config.metric]
    difference = paired_difference(
        other.to_numpy(),
        first[config.metric].to_numpy(),
        first["face_id"].to_numpy(),
        first["cutout_id"].to_numpy(),
        rng=generator(config.seed, "compare", name),
    )
    return {
        "group": name,
        "n": len(first),
        "first": first[config.metric].mean(),
        "second": other.mean(),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "clear": difference.excludes(0.0),
    }


command = job_command(CompareConfig, compare, {}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
