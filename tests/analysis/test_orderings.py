import math
from pathlib import Path

import pytest

from analysis.orderings import Ordering, method_orderings, selection_orderings, terms_orderings
from analysis.sweep_results import read_sweep
from s3pot.metrics import Interval
from tests.analysis.fake_results import FakeResults
from tests.analysis.fake_sweep import FE, SA, SELECTOR, write_sweep, write_table2, write_table3


def verdict(low: float, high: float) -> str:
    value = Interval(mean=(low + high) / 2, low=low, high=high, n=9, level=0.95)
    return Ordering(claim="", setting="", paper=None, difference=value).verdict


def test_an_interval_that_holds_zero_decides_nothing() -> None:
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.2), verdict(0.0, 0.2)] == [
        "agrees",
        "opposite",
        "undecided",
        "undecided",
    ]
    assert verdict(math.nan, math.nan) == "undecided"


def test_the_claims_of_table_2(tmp_path: Path) -> None:
    found = selection_orderings(read_sweep(write_table2(tmp_path / "sweep")))
    said = {(one.claim, one.setting): one for one in found}
    # 4 + 4 pairs of selectors, 6 of the reweighter, 6 of FE.
    assert len(said) == len(found) == 20
    # As `table2_iou` makes them.
    assert said["GS > Otsu", "FE, no SA"].verdict == "agrees"
    assert said["GS > Otsu", "FE, no SA"].paper == (56.9, 25.6)
    assert said["GS > Otsu", "no FE, no SA"].verdict == "opposite"
    assert said["GS > Otsu", "no FE, no SA"].paper is None
    assert said["GS > Otsu", "no FE, no SA"].difference.mean == pytest.approx(-0.05, abs=0.01)
    assert said["FE helps", "GS, SA"].verdict == "undecided"
    assert said["FE helps", "GS, SA"].paper == (76.2, 68.3)
    assert said["FE helps", "GS, no SA"].verdict == "agrees"
    assert said["SA helps", "no FE, GS"].paper == (68.3, 51.2)
    assert said["SA helps", "no FE, Otsu"].verdict == "opposite"
    assert said["Otsu > TH", "FE, SA"].difference.n == 20


def test_only_what_was_measured_is_said(tmp_path: Path) -> None:
    grid = {FE: [True], SELECTOR: ["greedy", "otsu"], SA: ["off"]}
    sweep = read_sweep(write_sweep(tmp_path / "sweep", grid, lambda cell: 0.5))
    [one] = selection_orderings(sweep)
    assert (one.claim, one.setting, one.verdict) == ("GS > Otsu", "FE, no SA", "undecided")


def test_the_claims_of_table_3(tmp_path: Path) -> None:
    found = terms_orderings(read_sweep(write_table3(tmp_path / "sweep")))
    assert len(found) == 6
    assert {one.verdict for one in found} == {"agrees"}
    assert found[3].setting == "against recall_face + recall_occ"
    assert found[3].paper == (76.2, 73.5)
    assert found[3].difference.mean == pytest.approx(0.2, abs=0.02)


def test_without_all_terms_nothing_is_claimed(tmp_path: Path) -> None:
    folder = write_table3(tmp_path / "sweep")
    sweep = read_sweep(folder)
    whole = sweep.cells.index[0]
    partial = type(sweep)(**{**vars(sweep), "cells": sweep.cells.drop(index=[whole])})
    assert terms_orderings(partial) == []


def test_the_claims_of_table_1(results: FakeResults) -> None:
    ids = "abcdefgh"
    results.evaluate("standard", {name: 0.5 + 0.01 * place for place, name in enumerate(ids)})
    results.evaluate("per_image", {name: 0.3 + 0.01 * place for place, name in enumerate(ids)})
    results.evaluate("segface_trained", {name: 0.2 + 0.01 * place for place, name in enumerate(ids)})
    results.evaluate("another", dict.fromkeys(ids, 0.9))
    found = {one.claim: one for one in method_orderings(results.read())}
    assert {claim: one.verdict for claim, one in found.items()} == {
        "Ours (Per-Image) > Ours (Standard)": "opposite",
        "Ours (Per-Image) > SegFace*": "agrees",
        "Ours (Standard) > SegFace*": "agrees",
    }
    assert found["Ours (Per-Image) > Ours (Standard)"].difference.mean == pytest.approx(-0.2)
    assert found["Ours (Per-Image) > Ours (Standard)"].paper == (80.4, 76.2)
