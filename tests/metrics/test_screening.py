"""Quality of a screen by score: hand-worked numbers, scikit-free oracles, intervals that behave."""

import math

import numpy as np
import pandas as pd
import pytest

from s3pot.metrics import auroc
from s3pot.metrics.screening import screen_quality


def _table(occluded: list[float], clean: list[float], *, faces: int | None = None) -> pd.DataFrame:
    scores = [*occluded, *clean]
    return pd.DataFrame(
        {
            "id": [f"i{number}" for number in range(len(scores))],
            "status": "ok",
            "face_id": [f"f{number % (faces or len(scores))}" for number in range(len(scores))],
            "cutout_id": [f"c{number % 3}" for number in range(len(occluded))] + [None] * len(clean),
            "truth_pixels": [50.0] * len(occluded) + [0.0] * len(clean),
            "occlusion_score": scores,
        }
    )


def test_a_hand_worked_screen() -> None:
    # Named: 0.5 and 0.3 of the occluded, 0.2 of the clean (the threshold itself counts).
    quality = screen_quality(_table([0.5, 0.3, 0.1, 0.0], [0.2, 0.1]), 0.2, seed=0, shares=(0.1,))
    assert quality.recall.mean == 2 / 4
    assert quality.false_positive_rate.mean == 1 / 2
    # Pairs won: 0.5 and 0.3 both of two; 0.1 a tie and a loss; 0 none.
    assert quality.auroc.mean == (2 + 2 + 0.5) / 8
    assert quality.precision[4 / 6].mean == pytest.approx(2 / 3)
    assert quality.precision[0.1].mean == pytest.approx(0.1 * 0.5 / (0.1 * 0.5 + 0.9 * 0.5))
    assert (quality.recall.n, quality.false_positive_rate.n, quality.auroc.n) == (4, 2, 6)


def test_a_score_of_nothing_is_never_named() -> None:
    quality = screen_quality(_table([0.4, 0.0], [0.0, 0.0]), -math.inf, seed=0)
    assert quality.recall.mean == 0.5
    assert quality.false_positive_rate.mean == 0.0


def test_it_agrees_with_the_metric_of_the_summary(rng: np.random.Generator) -> None:
    occluded, clean = rng.random(40).round(1), (rng.random(30) * 0.7).round(1)
    quality = screen_quality(_table(occluded.tolist(), clean.tolist()), 0.3, seed=0)
    assert quality.auroc.mean == pytest.approx(auroc(occluded, clean), abs=1e-12)


def test_intervals_hold_the_estimate_and_repeat(rng: np.random.Generator) -> None:
    table = _table(rng.random(60).tolist(), (rng.random(50) * 0.6).tolist(), faces=25)
    first, again = (screen_quality(table, 0.4, seed=3, shares=(0.05,)) for _ in range(2))
    assert first == again
    intervals = [first.recall, first.false_positive_rate, first.auroc, *first.precision.values()]
    assert len(intervals) == 5
    for interval in intervals:
        assert interval.low < interval.mean < interval.high
    assert screen_quality(table.sample(frac=1, random_state=1), 0.4, seed=4).auroc != first.auroc


def test_faces_that_recur_widen_the_interval(rng: np.random.Generator) -> None:
    # Ten images of each of eight faces, alike within a face: eighty images are worth eight.
    of_face = np.repeat(np.arange(8), 10)
    table = _table((of_face % 2 * 0.8 + 0.1).tolist(), [0.2] * 8)
    table["cutout_id"] = [f"own{number}" for number in range(len(table))]
    apart = screen_quality(table, 0.5, seed=0).recall
    table.loc[: len(of_face) - 1, "face_id"] = [f"same{face}" for face in of_face]
    together = screen_quality(table, 0.5, seed=0).recall
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_without_clean_images_there_is_recall_alone() -> None:
    quality = screen_quality(_table([0.4, 0.1, 0.3], []), 0.2, seed=0, shares=(0.1,))
    assert quality.recall.mean == pytest.approx(2 / 3)
    assert quality.precision == {}
    assert math.isnan(quality.false_positive_rate.mean)
    assert math.isnan(quality.auroc.mean)


def test_failed_images_and_unknown_truth_are_left_out() -> None:
    table = _table([0.4, 0.1, 0.3], [0.1, 0.5])
    table.loc[0, ["status", "occlusion_score"]] = "failed", np.nan
    table.loc[4, "truth_pixels"] = np.nan
    quality = screen_quality(table, 0.2, seed=0)
    assert (quality.recall.n, quality.false_positive_rate.n, quality.failed) == (2, 1, 1)
    assert math.isnan(quality.false_positive_rate.low), "one face alone cannot be resampled"


def test_a_table_that_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="no image that is known to be occluded"):
        screen_quality(_table([], [0.1]), 0.2, seed=0)
    with pytest.raises(ValueError, match="lacks truth_pixels"):
        screen_quality(_table([0.1], [0.1]).drop(columns="truth_pixels"), 0.2, seed=0)
