"""From per-image tables to estimates with intervals: the numbers that stand in the scorecard."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from s3pot.metrics import Interval, cluster_bootstrap_mean
from s3pot.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One measured number.

    Attributes:
        mean: the value; NaN where the material does not define it.
        low: lower bound of the 95 % interval; NaN without one.
        high: upper bound.
        n: images, or image parts, behind it.
        ceiling: the most that could be reached; NaN when there is no such bound.
        note: what a reader must know, in a few words.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    ceiling: float = math.nan
    note: str = ""

    def with_ceiling(self, ceiling: "Estimate | None") -> "Estimate":
        """Return the estimate with the mean of another one as its ceiling; None leaves it without."""
        return self if ceiling is None else replace(self, ceiling=ceiling.mean)


def from_interval(interval: Interval, note: str = "") -> Estimate:
    """Turn an interval into an estimate."""
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high, n=interval.n, note=note)


def mean_of(table: pd.DataFrame, column: str, seed: int, note: str = "") -> Estimate:
    """Average a column over the rows where it is defined, faces and cut-outs resampled for the interval.

    Args:
        table: with the column and `face_id`; `cutout_id` too where composites share cut-outs.
        column: a metric; NaN rows are left out.
        seed: of the bootstrap.
        note: goes into the estimate.
    """
    defined = table[table[column].notna()]
    cutouts = defined["cutout_id"].tolist() if "cutout_id" in defined else None
    interval = cluster_bootstrap_mean(
        defined[column].to_numpy(float), defined["face_id"].tolist(), cutouts, rng=generator(seed, "scorecard", column)
    )
    return from_interval(interval, note)


def mean_of_ratios(
    table: pd.DataFrame, numerators: list[str], denominators: list[str], seed: int, note: str = ""
) -> Estimate:
    """Average several pooled ratios, such as the IoU of every class over a whole collection.

    Value: mean over pairs of columns of sum(numerator) / sum(denominator). A pair whose denominator sums to 0 is left
    out. The interval is that of the linearised statistic (each image's influence on the value), so images stay whole:
    resampling every ratio by itself would treat the classes of one face as independent.

    Args:
        table: with `face_id`, `cutout_id` where composites share cut-outs, and the columns; nothing NaN.
        numerators: columns, in the order of `denominators`.
        denominators: columns.
        seed: of the bootstrap.
        note: goes into the estimate.
    """
    above, below = table[numerators].to_numpy(float), table[denominators].to_numpy(float)
    present = below.sum(axis=0) > 0
    if not present.any():
        return Estimate(mean=math.nan, n=len(table), note=note)
    above, below = above[:, present], below[:, present]
    ratios = above.sum(axis=0) / below.sum(axis=0)
    influence = ((above - ratios * below) / below.mean(axis=0)).mean(axis=1)
    linear = table[["face_id", *(["cutout_id"] if "cutout_id" in table else [])]].copy()
    linear["value"] = float(np.mean(ratios)) + influence
    return mean_of(linear, "value", seed, note)


def quantile_of(table: pd.DataFrame, column: str, share: float, seed: int, note: str = "") -> Estimate:
    """Estimate a quantile of a column, with an interval that respects clusters.

    The share of rows up to the quantile is a mean: its interval, read off the quantiles once more, is that of the
    quantile (Woodruff, Confidence intervals for medians and other position measures, 1952).

    Args:
        table: as of `mean_of`; NaN rows are left out.
        column: what the quantile is taken of.
        share: in (0, 1); 0.5 = the median.
        seed: of the bootstrap.
        note: goes into the estimate.
    """
    defined = table[table[column].notna()]
    values = defined[column].to_numpy(float)
    if not values.size:
        return Estimate(mean=math.nan, note=note)
    value = float(np.quantile(values, share))
    below = mean_of(defined.assign(below=(values <= value).astype(float)), "below", seed)
    bounds = np.clip(share + np.array([below.low, below.high]) - below.mean, 0.0, 1.0)
    low, high = (math.nan, math.nan) if np.isnan(bounds).any() else np.quantile(values, bounds).tolist()
    return Estimate(mean=value, low=low, high=high, n=values.size, note=note)
