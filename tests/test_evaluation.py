"""Evaluation of a store: frames, statuses, truth, foreign masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from s3pot.evaluation import evaluate_store, evaluate_with, mask_path, mean_iou, measure_row, read_truth
from s3pot.images import write_png
from s3pot.metrics.summary import summarise
from s3pot.prediction import OcclusionPrediction
from s3pot.store.manifest import append_part, read_manifest
from s3pot.store.prompt_store import PromptStore, create_empty
from tests.manifest_rows import SIDE as SIZE
from tests.manifest_rows import half_occluded_row as _row
from tests.manifest_rows import left_half
from tests.stand_ins import tiny_sam

GRID = (8, 8)


def _read(folder: Path, *rows: dict[str, object]) -> list[object]:
    append_part(folder / "manifest", list(rows))
    return list(read_manifest(folder / "manifest").itertuples(index=False))


def _left_half() -> OcclusionPrediction:
    probability = np.zeros((SIZE, SIZE), dtype=np.float32)
    probability[:, :32] = 0.9
    return OcclusionPrediction(probability=probability, occlusion=probability > 0.5, score=0.45)


def test_a_perfect_prediction_in_the_original_frame(tmp_path: Path) -> None:
    seen: dict[str, np.ndarray] = {}
    measured = measure_row(_read(tmp_path, _row(tmp_path))[0], _left_half(), GRID, seen.__setitem__)
    assert measured["iou_unclipped"] == 1.0
    assert measured["occlusion_score"] == 0.45
    assert measured["prompt_precision"] == 1.0
    assert seen["a"].shape == (SIZE, SIZE)
    assert seen["a"][:, :32].all()
    assert not seen["a"][:, 32:].any()


def test_a_larger_photograph_is_measured_in_its_own_frame(tmp_path: Path) -> None:
    write_png(tmp_path / "large.png", np.repeat(np.repeat(left_half(), 3, axis=0), 3, axis=1))
    changes = {"original_height": 3 * SIZE, "original_width": 3 * SIZE, "truth_path": str(tmp_path / "large.png")}
    row = _row(tmp_path, to_original=[3.0, 0, 1, 0, 3, 1], **changes)
    measured = measure_row(_read(tmp_path, row)[0], _left_half(), GRID)
    assert measured["iou_unclipped"] > 0.98
    assert np.isnan(measured["prompt_precision"]), "prompt ids are of another frame"


def test_no_face_is_an_empty_prediction_and_failed_is_nothing(tmp_path: Path) -> None:
    no_face = _row(tmp_path, id="b", status="no_face", parsing_png=None, to_original=None)
    failed = _row(tmp_path, id="c", status="failed", error="c.png: is empty", original_height=None)
    rows = _read(tmp_path, no_face, failed)
    first, second = (measure_row(row, None, GRID) for row in rows)
    assert first["iou_face_mask"] == 0.0
    assert first["occlusion_score"] == 0.0
    assert np.isnan(second["iou_face_mask"])
    assert second["error"] == "c.png: is empty"


def test_unknown_truth_gives_no_numbers(tmp_path: Path) -> None:
    row = _read(tmp_path, _row(tmp_path, truth_path=None))[0]
    assert read_truth(row).occlusion is None
    assert np.isnan(measure_row(row, _left_half(), GRID)["iou_face_mask"])


def _store(folder: Path) -> PromptStore:
    return create_empty(folder, "x", {}, "fp16")


def test_anything_can_predict_and_what_says_nothing_found_nothing(tmp_path: Path) -> None:
    rows = [_row(tmp_path, id=name) for name in ("a", "b")]
    append_part(tmp_path / "manifest", [*rows, _row(tmp_path, id="c", status="no_face", parsing_png=None)])
    asked: list[list[str]] = []

    def predict(wanted: Sequence[Any]) -> dict[str, OcclusionPrediction]:
        asked.append([row.id for row in wanted])
        return {"a": _left_half()}

    table = evaluate_with(_store(tmp_path), predict).set_index("id")
    assert asked == [["a", "b"]], "an image without a face is not asked about"
    assert table["iou_unclipped"].tolist() == [1.0, 0.0, 0.0]
    assert table["prompt_precision"].isna().all(), "the stored prompts made none of these"


def test_a_store_of_images_about_which_nothing_is_known(tmp_path: Path) -> None:
    unknown = {"kind": None, "face_id": None, "cutout_id": None}
    append_part(tmp_path / "manifest", [_row(tmp_path, **unknown), _row(tmp_path, id="b", **unknown)])
    table = evaluate_with(_store(tmp_path), lambda rows: {row.id: _left_half() for row in rows})
    assert (table["kind"].tolist(), table["face_id"].tolist()) == (["unknown", "unknown"], ["a", "b"])
    assert summarise(table, seed=0, replicates=10).value("iou_face_mask", scope="kind", kind="unknown").n == 2
    assert mean_iou(table) == table["iou_face_mask"].mean()


def test_an_empty_store_gives_an_empty_table(tmp_path: Path) -> None:
    table = evaluate_store(_store(tmp_path), tiny_sam(), None)
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 0
    assert np.isnan(mean_iou(table))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_an_id_may_not_lead_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        mask_path(tmp_path, name)


def test_an_id_may_be_in_a_folder(tmp_path: Path) -> None:
    assert mask_path(tmp_path, "sub/a.jpg") == tmp_path / "masks" / "sub" / "a.jpg.png"
