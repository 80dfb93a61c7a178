from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s3pot.images import encode_png, write_png
from s3pot.metrics.summary import summarise
from s3pot.parsing.classes import face_mask
from s3pot.predictions.full_face import FullFace
from s3pot.predictions.measuring import MissingPolicy, evaluate_predictions
from s3pot.predictions.table import read_predictions
from s3pot.store.manifest import append_part
from s3pot.store.prompt_store import PromptStore, create_empty
from tests.faces import draw_face
from tests.manifest_rows import SIDE, half_occluded_row, left_half


def store_of(folder: Path, *rows: dict[str, object]) -> PromptStore:
    append_part(folder / "manifest", list(rows))
    return create_empty(folder, "x", {}, "fp16")


def measured(store: PromptStore, source: Path, missing: MissingPolicy = "error") -> pd.DataFrame:
    predictions = read_predictions(source, store.rows(["status"])["id"].tolist())
    return evaluate_predictions(store, predictions, missing=missing).set_index("id")


def test_the_truth_is_perfect_and_its_score_the_marked_share(tmp_path: Path) -> None:
    store = store_of(tmp_path, half_occluded_row(tmp_path))
    write_png(tmp_path / "masks" / "a.png", left_half())
    row = measured(store, tmp_path / "masks").loc["a"]
    assert (row["iou_unclipped"], row["status"]) == (1.0, "ok")
    face = face_mask(draw_face(SIDE)[1])
    assert row["occlusion_score"] == pytest.approx(face[:, :32].sum() / face.sum())


def test_missing_predictions_follow_the_policy(tmp_path: Path) -> None:
    clean = np.zeros((SIDE, SIDE), dtype=np.uint8)
    write_png(tmp_path / "clean.png", clean)
    rows = [half_occluded_row(tmp_path, id=name) for name in ("a", "b")]
    rows.append(half_occluded_row(tmp_path, id="c", truth_path=str(tmp_path / "clean.png")))
    store = store_of(tmp_path, *rows)
    write_png(tmp_path / "masks" / "a.png", left_half())

    error = measured(store, tmp_path / "masks")
    assert error["status"].tolist() == ["ok", "failed", "failed"]
    assert "b.png" in error.loc["b", "error"]

    empty = measured(store, tmp_path / "masks", "empty")
    assert empty["status"].tolist() == ["ok", "missing", "missing"]
    assert (empty.loc["b", "iou_face_mask"], empty.loc["c", "false_positive_area"]) == (0.0, 0.0)

    exclude = measured(store, tmp_path / "masks", "exclude")
    assert exclude["status"].tolist() == ["ok", "excluded", "excluded"]
    assert exclude["truth_pixels"].notna().tolist() == [True, False, False]
    counts = summarise(exclude.reset_index(), seed=0, replicates=10).counts
    assert (counts["status_excluded"], counts["occluded"], counts["failed"]) == (2, 1, 0)


@pytest.mark.parametrize("missing", ["error", "empty", "exclude"])
def test_a_file_that_cannot_be_used_is_never_missing(tmp_path: Path, missing: MissingPolicy) -> None:
    store = store_of(tmp_path, half_occluded_row(tmp_path))
    write_png(tmp_path / "masks" / "a.png", left_half()[:10])
    row = measured(store, tmp_path / "masks", missing).loc["a"]
    assert row["status"] == "failed"
    assert "is 10 x 64, the image 64 x 64" in row["error"]


def test_a_visible_face_becomes_the_rest_of_the_full_face(tmp_path: Path) -> None:
    parsing = draw_face(SIDE)[1]
    store = store_of(tmp_path, half_occluded_row(tmp_path))
    seen = parsing.copy()
    seen[:, :32] = 0
    write_png(tmp_path / "labels" / "a.png", seen)
    (tmp_path / "parser.yaml").write_text(
        "path: labels/{id}.png\nencoding: labels\nlabel_order: s3pot\ntarget: parts\n"
    )
    masks: dict[str, np.ndarray] = {}
    predictions = read_predictions(tmp_path / "parser.yaml", ["a"])
    evaluate_predictions(store, predictions, on_mask=masks.__setitem__)
    np.testing.assert_array_equal(masks["a"], face_mask(parsing) & (left_half() > 0))

    full = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    write_png(tmp_path / "faces" / "a.png", full)
    source = FullFace(source=str(tmp_path / "faces"))
    evaluate_predictions(store, predictions, full_face=source, on_mask=masks.__setitem__)
    np.testing.assert_array_equal(masks["a"], ~face_mask(seen))


def test_where_a_method_did_not_look_it_claims_nothing(tmp_path: Path) -> None:
    store = store_of(tmp_path, half_occluded_row(tmp_path))
    write_png(tmp_path / "faces" / "a.png", np.zeros((32, 32), dtype=np.uint8))
    (tmp_path / "m.yaml").write_text("path: faces/{id}.png\nframe: crop\ncrop: 0 0 32 64\ntarget: visible_face\n")
    masks: dict[str, np.ndarray] = {}
    evaluate_predictions(store, read_predictions(tmp_path / "m.yaml", ["a"]), on_mask=masks.__setitem__)
    np.testing.assert_array_equal(masks["a"], face_mask(draw_face(SIDE)[1]) & (left_half() > 0))


def test_an_image_without_a_face_is_an_empty_prediction_of_the_crop(tmp_path: Path) -> None:
    row = half_occluded_row(tmp_path, status="no_face", parsing_png=None, to_original=None)
    store = store_of(tmp_path, row)
    write_png(tmp_path / "masks" / "a.png", left_half())
    (tmp_path / "m.yaml").write_text("path: masks/{id}.png\nframe: aligned\n")
    found = measured(store, tmp_path / "m.yaml").loc["a"]
    assert (found["status"], found["iou_face_mask"]) == ("no_face", 0.0)


def test_a_manifest_without_kinds_and_faces_can_be_summarised(tmp_path: Path) -> None:
    rows = [half_occluded_row(tmp_path, id=name, kind=None, face_id=None, cutout_id=None) for name in ("a", "b")]
    store = store_of(tmp_path, *rows, half_occluded_row(tmp_path, id="c", parsing_png=encode_png(draw_face(SIDE)[1])))
    for name in ("a", "b", "c"):
        write_png(tmp_path / "masks" / f"{name}.png", left_half())
    table = measured(store, tmp_path / "masks")
    assert table["kind"].tolist() == ["unknown", "unknown", "objects"]
    assert table["face_id"].tolist() == ["a", "b", "f"]
    assert summarise(table.reset_index(), seed=0, replicates=10).value("iou_unclipped", scope="overall").mean == 1.0
