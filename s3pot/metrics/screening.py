"""The image-level score as a screen: how many of the occluded faces it finds, and how many of those it names are.

Recall and the false-positive rate belong to the score and the threshold; precision depends besides on how common
occluded faces are, so it is given for the mix at hand and for any other share p: p r / (p r + (1 - p) f). Failed images
are left out and counted; a face that was not found scores 0.

Intervals resample faces and cut-outs among the occluded images, and faces among the clean ones. The two groups are
drawn apart: where they share faces, that makes the intervals wider, if anything.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from s3pot.metrics.intervals import FloatArray, Interval, bootstrap_weights
from s3pot.metrics.summary import FAILED
from s3pot.seeding import generator

_NEEDED = ("id", "status", "face_id", "cutout_id", "truth_pixels", "occlusion_score")


@dataclass(frozen=True, kw_only=True)
class ScreenQuality:
    """What a screen by score does at one threshold.

    Attributes:
        threshold: an image is named from this score on, and never with a score of 0.
        recall: share of the occluded images that are named.
        false_positive_rate: share of the clean images that are named; NaN without any.
        precision: share of the named images that are occluded, by share of occluded images in the material.
        auroc: probability that an occluded image scores higher than a clean one, ties counted half; of all thresholds.
        failed: images left out.
    """

    threshold: float
    recall: Interval
    false_positive_rate: Interval
    precision: dict[float, Interval]
    auroc: Interval
    failed: int


def screen_quality(
    table: pd.DataFrame,
    threshold: float,
    *,
    seed: int,
    shares: tuple[float, ...] = (),
    replicates: int = 2000,
    level: float = 0.95,
) -> ScreenQuality:
    """Judge a screen on images with truth.

    Args:
        table: per-image table of `evaluate`; rows without truth do not count.
        threshold: from which score on an image is named.
        seed: of the intervals.
        shares: shares of occluded images, in (0, 1), that precision is given for besides that of the table.
        replicates: of the bootstrap.
        level: coverage of the intervals.

    Raises:
        ValueError: a column is missing, or there is no occluded image.
    """
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing:
        raise ValueError(f"the table lacks {', '.join(missing)}")
    rows = table[table["status"] != FAILED]
    occluded, clean = rows[rows["truth_pixels"] > 0], rows[rows["truth_pixels"] == 0]
    if occluded.empty:
        raise ValueError("the table holds no image that is known to be occluded")
    weights = (
        _weights(occluded, seed, "occluded", replicates, cutouts=True),
        _weights(clean, seed, "clean", replicates, cutouts=False),
    )
    hits, alarms = _named(occluded, threshold), _named(clean, threshold)
    recall, rate = _shares(weights[0], hits), _shares(weights[1], alarms)
    n = len(occluded), len(clean)

    def interval(values: FloatArray, images: int) -> Interval:
        return _interval(values, images, level)

    mixes = dict.fromkeys((n[0] / sum(n), *shares))
    return ScreenQuality(
        threshold=threshold,
        recall=interval(recall, n[0]),
        false_positive_rate=interval(rate, n[1]),
        precision={mix: interval(_precision(recall, rate, mix), sum(n)) for mix in mixes} if n[1] else {},
        auroc=interval(_auroc(_scores(occluded), _scores(clean), *weights), sum(n)),
        failed=int((table["status"] == FAILED).sum()),
    )


def _scores(rows: pd.DataFrame) -> FloatArray:
    scores: FloatArray = rows["occlusion_score"].to_numpy(dtype=np.float64)
    return scores


def _named(rows: pd.DataFrame, threshold: float) -> FloatArray:
    scores = _scores(rows)
    named: FloatArray = ((scores >= threshold) & (scores > 0.0)).astype(np.float64)
    return named


def _weights(rows: pd.DataFrame, seed: int, group: str, replicates: int, *, cutouts: bool) -> FloatArray:
    """Return (1 + replicates, n): the images as they are, and the replicates."""
    # An image without a cut-out (a real photograph) is its own.
    cutout = rows["cutout_id"].where(rows["cutout_id"].notna(), rows["id"]).astype(str)
    faces = rows["face_id"].where(rows["face_id"].notna(), rows["id"]).astype(str)
    drawn = bootstrap_weights(
        faces.tolist(),
        cutout.tolist() if cutouts else None,
        rng=generator(seed, "screen_quality", group),
        replicates=replicates,
    )
    return np.concatenate([np.ones((1, len(rows))), drawn])


def _shares(weights: FloatArray, named: FloatArray) -> FloatArray:
    return _divided(weights @ named, weights.sum(axis=1))


def _precision(recall: FloatArray, rate: FloatArray, share: float) -> FloatArray:
    recall, rate = _paired(recall, rate)
    found, wrong = share * recall, (1.0 - share) * rate
    return _divided(found, found + wrong)


def _auroc(occluded: FloatArray, clean: FloatArray, of_occluded: FloatArray, of_clean: FloatArray) -> FloatArray:
    wins = (occluded[:, None] > clean).astype(np.float64) + 0.5 * (occluded[:, None] == clean)
    of_occluded, of_clean = _paired(of_occluded, of_clean)
    pairs = of_occluded.sum(axis=1) * of_clean.sum(axis=1)
    return _divided(np.einsum("rc,rc->r", of_occluded @ wins, of_clean), pairs)


def _paired(first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut to the replicates that both have: one alone, the images as they are, where a group cannot be resampled."""
    both = min(len(first), len(second))
    return first[:both], second[:both]


def _divided(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.full_like(above, math.nan), where=below > 0)


def _interval(values: FloatArray, images: int, level: float) -> Interval:
    """Return the interval of (1 + replicates,) values, the first of which is the estimate."""
    drawn = values[1:][~np.isnan(values[1:])]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail]) if drawn.size else (math.nan, math.nan)
    return Interval(mean=float(values[0]), low=float(low), high=float(high), n=images, level=level)
