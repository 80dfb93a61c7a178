"""The tables of a sweep, from trial folders made by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_jobs.sweep_config import CellPlan, SweepConfig, plan_cells
from ray_jobs.sweep_tables import PlannedTrial, write_tables
from ray_jobs.trial import TABLE, TrialConfig, fail_trial, finish_trial
from s3pot.config import parse
from s3pot.metrics import METRIC_COLUMNS
from s3pot.metrics.intervals import paired_difference
from s3pot.seeding import generator

LAM = "objective.lam"
IMAGES = 12


def _plan() -> CellPlan:
    mapping = {"title": "x", "grid": {LAM: [0.25, 0.5, 1.0]}, "compare_to": {LAM: 0.5}}
    return plan_cells(parse(SweepConfig, mapping, where="test"))


def _trials(plan: CellPlan) -> list[PlannedTrial]:
    return [
        PlannedTrial(
            id=f"{number:012x}",
            cell=cell,
            seed=seed,
            config=TrialConfig(
                settings=settings,
                train_store=Path("train"),
                evaluate_store=Path("dev"),
                train_images=("a",),
                evaluate_images=("b",),
            ),
        )
        for number, (cell, seed, settings) in enumerate(plan.trials((0, 1)))
    ]


def _table(values: list[float]) -> pd.DataFrame:
    """An evaluation: two images per face, three cut-outs; the last image is clean."""
    known = {"path": "x", "status": "ok", "error": None, "kind": "hands"}
    rows = [
        {"id": f"i{n}", **known, "face_id": f"f{n // 2}", "cutout_id": f"c{n % 3}"}
        | dict.fromkeys(METRIC_COLUMNS, 0.5)
        | {"iou_face_mask": value, "truth_pixels": 100.0}
        for n, value in enumerate(values)
    ]
    clean = {"iou_face_mask": math.nan, "truth_pixels": 0.0, "false_positive_area": 3.0, "cutout_id": None}
    return pd.DataFrame([*rows, rows[0] | {"id": "clean", **clean}])


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Path, CellPlan, list[PlannedTrial], np.ndarray]:
    """Three cells of two seeds; the third cell has one trial that failed and one that never ran."""
    plan = _plan()
    trials = _trials(plan)
    values = np.random.default_rng(0).random((4, IMAGES))
    for trial, row in zip(trials[:4], values, strict=True):
        folder = trial.folder(tmp_path)
        folder.mkdir(parents=True)
        _table(row.tolist()).to_parquet(folder / TABLE)
        (folder / "history.jsonl").write_text('{"epoch": 0, "total": 2.0}\n{"epoch": 1, "total": 1.5}\n')
        finish_trial(folder, 10.0)
    fail_trial(trials[4].folder(tmp_path), "ValueError: bad")
    return tmp_path, plan, trials, values


Sweep = tuple[Path, CellPlan, list[PlannedTrial], np.ndarray]


def test_a_cell_is_the_mean_over_images_of_the_mean_over_seeds(sweep: Sweep) -> None:
    folder, plan, trials, values = sweep
    cells = write_tables(folder, plan, trials, "iou_face_mask")
    assert cells.equals(pd.read_parquet(folder / "cells.parquet")[cells.columns]) or len(cells) == 3
    first, base, nothing = cells.to_dict("records")
    assert (first[LAM], base[LAM], nothing[LAM]) == (0.25, 0.5, 1.0)
    assert first["mean"] == pytest.approx(values[:2].mean())
    assert first["seed_deviation"] == pytest.approx(np.std(values[:2].mean(axis=1), ddof=1))
    assert (first["seeds"], first["n"], first["failed"]) == (2, IMAGES, 0), "the clean image has no IoU"
    assert first["low"] < first["mean"] < first["high"]
    assert math.isnan(base["difference"])
    assert (nothing["seeds"], nothing["failed"], math.isnan(nothing["mean"])) == (0, 2, True)


def test_differences_are_paired_per_image(sweep: Sweep) -> None:
    folder, plan, trials, values = sweep
    first = write_tables(folder, plan, trials, "iou_face_mask").iloc[0]
    faces, cutouts = [f"f{n // 2}" for n in range(IMAGES)], [f"c{n % 3}" for n in range(IMAGES)]
    order = np.argsort([f"i{n}" for n in range(IMAGES)])
    expected = paired_difference(
        values[:2].mean(axis=0)[order],
        values[2:].mean(axis=0)[order],
        np.array(faces)[order],
        np.array(cutouts)[order],
        rng=generator(0, "sweep", "intervals"),
    )
    assert first["difference"] == pytest.approx(expected.mean)
    assert (first["difference_low"], first["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert bool(first["shown"]) == expected.excludes(0.0)


def test_every_trial_is_a_row_and_every_image_one_per_trial(sweep: Sweep) -> None:
    folder, plan, trials, values = sweep
    write_tables(folder, plan, trials, "iou_face_mask")
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["status"].tolist() == ["ok"] * 4 + ["failed", "missing"]
    assert table["seed"].tolist() == [0, 1] * 3
    assert table["error"][4] == "ValueError: bad"
    assert table["iou_face_mask"][:4].tolist() == pytest.approx(values.mean(axis=1).tolist())
    assert (table["objective"][0], table["epochs"][0], table["images"][0]) == (1.5, 2, IMAGES + 1)
    assert table["clean_false_positive_area"][0] == 3.0
    images = pd.read_parquet(folder / "images.parquet")
    assert len(images) == 4 * (IMAGES + 1)
    assert set(images["trial"]) == {trial.id for trial in trials[:4]}


def test_the_table_for_eyes_marks_what_is_shown(sweep: Sweep) -> None:
    folder, plan, trials, values = sweep
    for trial, row in zip(trials[:2], values[2:], strict=True):
        _table((row - 0.5).tolist()).to_parquet(trial.folder(folder) / TABLE)
    write_tables(folder, plan, trials, "iou_face_mask")
    lines = (folder / "cells.md").read_text().splitlines()
    assert lines[2].startswith("| 0.25 | 2 |")
    assert "-0.500 [-0.500, -0.500] *" in lines[2]
    assert lines[3].endswith("| compared with |")
    assert "0 (2 failed)" in lines[4]
