"""Estimates: hand-worked means, pooled ratios and their intervals."""

import math

import numpy as np
import pandas as pd
import pytest

from s3pot.scorecard.estimates import Estimate, mean_of, mean_of_ratios


def test_undefined_rows_are_left_out() -> None:
    table = pd.DataFrame({"face_id": ["a", "b", "c"], "x": [1.0, math.nan, 3.0]})
    found = mean_of(table, "x", seed=0)
    assert (found.mean, found.n) == (2.0, 2)
    assert 1.0 <= found.low < found.high <= 3.0


def test_ratios_are_pooled_then_averaged() -> None:
    # Class a: (1 + 3) / (2 + 6) = 0.5; class b: (4 + 0) / (4 + 1) = 0.8; a mean per picture would give 0.5 and 0.5.
    table = pd.DataFrame(
        {"face_id": ["x", "y"], "ai": [1.0, 3.0], "au": [2.0, 6.0], "bi": [4.0, 0.0], "bu": [4.0, 1.0]}
    )
    assert mean_of_ratios(table, ["ai", "bi"], ["au", "bu"], 0).mean == pytest.approx(0.65)


def test_a_class_that_nowhere_occurs_is_left_out() -> None:
    table = pd.DataFrame(
        {"face_id": ["x", "y"], "ai": [1.0, 1.0], "au": [2.0, 2.0], "bi": [0.0, 0.0], "bu": [0.0, 0.0]}
    )
    assert mean_of_ratios(table, ["ai", "bi"], ["au", "bu"], 0).mean == 0.5
    assert math.isnan(mean_of_ratios(table, ["bi"], ["bu"], 0).mean)


def test_the_interval_agrees_with_a_bootstrap_of_whole_pictures(rng: np.random.Generator) -> None:
    number = 200
    table = pd.DataFrame({"face_id": [f"f{i}" for i in range(number)]})
    # One difficulty per picture moves all classes together: resampling classes by themselves would be too sure.
    quality = rng.uniform(0.3, 0.9, size=number)
    for name in "abc":
        table[f"{name}u"] = rng.integers(50, 150, size=number).astype(float)
        table[f"{name}i"] = table[f"{name}u"] * quality
    above, below = table[["ai", "bi", "ci"]].to_numpy(), table[["au", "bu", "cu"]].to_numpy()
    drawn = rng.integers(number, size=(4000, number))
    means = (above[drawn].sum(axis=1) / below[drawn].sum(axis=1)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    found = mean_of_ratios(table, ["ai", "bi", "ci"], ["au", "bu", "cu"], 0)
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_a_ceiling_is_the_mean_of_another_estimate() -> None:
    assert Estimate(mean=0.5).with_ceiling(Estimate(mean=0.9)).ceiling == 0.9
    assert math.isnan(Estimate(mean=0.5).with_ceiling(None).ceiling)
