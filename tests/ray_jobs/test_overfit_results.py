"""Tables of a fleet, from rows written by hand."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from ray_jobs.overfit_results import (
    curves_of,
    finish_fleet,
    gain_of,
    log_children,
    read_rows,
    withdraw_failed,
)
from ray_jobs.overfit_trial import failed_row, write_part
from ray_jobs.tracking import tracked_run
from tests.ray_jobs.mlflow_stand_ins import put_database, stored_runs

TERMS = ("total", "recall_occlusion", "recall_face", "face_penalty")


def image(name: str) -> dict[str, Any]:
    return {"id": name, "path": f"/{name}.png", "kind": "hands", "face_id": name[0], "cutout_id": name[-1]}


def row(name: str, before: float, after: float, totals: list[float], stopped: str = "budget") -> dict[str, Any]:
    numbers = {"iou_before": before, "iou_face_mask": after, "truth_pixels": 0.0 if math.isnan(after) else 50.0}
    curves = {f"curve_{term}": [total + place for total in totals] for place, term in enumerate(TERMS)}
    words = {"status": "ok", "stopped": stopped, "start": "scratch"}
    optimised = {
        "objective_before": totals[0], "objective_after": totals[-1], "steps": len(totals) - 1.0, "seconds": 2.0,
    }  # fmt: skip
    return image(name) | words | numbers | curves | optimised


ROWS = [
    row("c1", 0.5, 0.75, [3.0, 2.0, 1.0]),
    row("a1", 0.25, 0.25, [5.0, 4.0], stopped="flat"),
    failed_row(image("b2"), "broken"),
    row("d2", math.nan, math.nan, [7.0, 6.0, 5.0]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two chunks, whose folder is that of an MLflow run `x` below `tmp_path`."""
    folder = tmp_path / "overfit" / "x"
    write_part(folder, ROWS[:1])
    write_part(folder, ROWS[1:])
    return folder


class TestRows:
    def test_all_parts_sorted_by_id(self, folder: Path) -> None:
        rows = read_rows(folder)
        assert rows["id"].tolist() == ["a1", "b2", "c1", "d2"]
        assert rows["error"].isna().tolist() == [True, False, True, True]
        assert rows.set_index("id").loc["c1", "iou_face_mask"] == 0.75

    def test_none_before_the_first_is_done(self, tmp_path: Path) -> None:
        rows = read_rows(tmp_path)
        assert rows.empty
        assert {"id", "status", "iou_face_mask"} <= set(rows.columns)

    def test_the_same_chunk_again_is_the_same_file(self, folder: Path) -> None:
        before = sorted((folder / "parts").iterdir())
        write_part(folder, ROWS[1:])
        assert sorted((folder / "parts").iterdir()) == before

    def test_an_image_done_twice_is_there_once(self, folder: Path) -> None:
        write_part(folder, [ROWS[0], ROWS[3]])
        assert read_rows(folder)["id"].tolist() == ["a1", "b2", "c1", "d2"]

    def test_half_a_file_is_not_read(self, folder: Path) -> None:
        (folder / "parts" / ".0.parquet.part").write_bytes(b"PAR1")
        assert len(read_rows(folder)) == 4


class TestWithdrawal:
    def test_failed_images_are_missing_afterwards_and_others_are_not(self, folder: Path) -> None:
        expected = read_rows(folder).query("status == 'ok'").reset_index(drop=True)
        assert withdraw_failed(folder, {"b2", "a1"}) == 1
        pd.testing.assert_frame_equal(read_rows(folder), expected)
        assert withdraw_failed(folder, {"b2", "a1"}) == 0

    def test_only_what_is_asked_for(self, folder: Path) -> None:
        assert withdraw_failed(folder, {"a1"}) == 0
        assert len(read_rows(folder)) == 4

    def test_a_part_of_failures_alone_goes(self, tmp_path: Path) -> None:
        write_part(tmp_path, [failed_row(image("a"), "broken"), failed_row(image("b"), "broken")])
        assert withdraw_failed(tmp_path, {"a", "b"}) == 2
        assert list((tmp_path / "parts").iterdir()) == []


class TestCurves:
    def test_a_row_per_image_and_step(self, folder: Path) -> None:
        curves = curves_of(read_rows(folder))
        assert curves.columns.tolist() == ["id", "step", *TERMS]
        assert list(zip(curves["id"], curves["step"], curves["total"], strict=True)) == [
            ("a1", 0, 5.0), ("a1", 1, 4.0),
            ("c1", 0, 3.0), ("c1", 1, 2.0), ("c1", 2, 1.0),
            ("d2", 0, 7.0), ("d2", 1, 6.0), ("d2", 2, 5.0),
        ]  # fmt: skip
        assert (curves["face_penalty"] == curves["total"] + 3).all()
        assert curves.dtypes[list(TERMS)].eq("float64").all()

    def test_none(self, tmp_path: Path) -> None:
        write_part(tmp_path, ROWS[2:3])
        assert curves_of(read_rows(tmp_path)).empty


class TestGain:
    def test_is_the_mean_difference_over_images_with_truth(self, folder: Path) -> None:
        gain = gain_of(read_rows(folder))
        assert (gain.mean, gain.n) == (0.125, 2)
        assert gain.low <= 0.125 <= gain.high

    def test_without_truth(self, tmp_path: Path) -> None:
        write_part(tmp_path, ROWS[2:])
        gain = gain_of(read_rows(tmp_path))
        assert gain.n == 0
        assert math.isnan(gain.mean)

    def test_images_that_name_no_face(self, tmp_path: Path) -> None:
        nameless = {"face_id": None, "cutout_id": None}
        write_part(tmp_path, [ROWS[0] | nameless, ROWS[1] | nameless])
        assert gain_of(read_rows(tmp_path)).n == 2


def test_tables_and_figures_are_written_and_logged_to_one_run(folder: Path, empty_database: Path) -> None:
    runs = folder.parent.parent
    uri = put_database(empty_database, runs)
    with tracked_run("overfit", "x", {}, runs) as tracked:
        sentence = finish_fleet(read_rows(folder), folder, tracked, 1.5)
    assert "4 images, 2 steps each; mean IoU before 0.375, after 0.500, gain +0.125 [" in sentence
    table = pd.read_parquet(folder / "per_image.parquet")
    assert not [name for name in table.columns if name.startswith("curve_")]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "curves.parquet"), curves_of(read_rows(folder)))
    [run] = stored_runs(uri)
    assert run.data.metrics["iou_gain"] == 0.125
    assert run.data.metrics["stopped_flat"] == pytest.approx(1 / 3)
    assert run.data.metrics["steps_taken"] == pytest.approx(5 / 3)
    client = MlflowClient(uri)
    names = {each.path for folder in ("", "figures") for each in client.list_artifacts(run.info.run_id, folder)}
    assert {"per_image.parquet", "curves.parquet", "summary.json", "figures/gains.png"} <= names
    for name in ("gains", "before-after", "overfitting"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_truth_there_are_curves_and_no_gain(tmp_path: Path, empty_database: Path) -> None:
    folder = tmp_path / "overfit" / "x"
    write_part(folder, ROWS[3:])
    put_database(empty_database, tmp_path)
    with tracked_run("overfit", "x", {}, tmp_path) as tracked:
        assert finish_fleet(read_rows(folder), folder, tracked, math.nan) == "1 images, 2 steps each, no truth"
    assert [path.name for path in (folder / "figures").glob("*.png")] == ["overfitting.png"]


def test_children_are_runs_of_their_own(folder: Path, empty_database: Path) -> None:
    runs = folder.parent.parent
    uri = put_database(empty_database, runs)
    with tracked_run("overfit", "x", {}, runs) as tracked:
        log_children(read_rows(folder), tracked)
    parent, *children = stored_runs(uri)
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    known = {child.data.params["image"]: child.data.metrics for child in children}
    assert set(known) == {"a1", "b2", "c1", "d2"}
    assert known["c1"]["iou_face_mask"] == 0.75
    assert known["a1"]["steps"] == 1
    assert known["b2"] == {}
