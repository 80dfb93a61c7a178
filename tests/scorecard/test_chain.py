"""The chain's rows by hand: clean faces, ratio to the oracle, headline kinds, evaluation tables."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s3pot.metrics import METRIC_COLUMNS
from s3pot.scorecard.chain import (
    estimate_chain,
    estimate_clean_faces,
    estimate_evaluation,
    measure_clean_faces,
    read_evaluation,
)
from tests.faces import draw_face
from tests.stand_ins import drawn_prefix


def evaluation(kinds: dict[str, list[float]], rung: str = "chain", head: str = "none") -> pd.DataFrame:
    rows = []
    for kind, values in kinds.items():
        for number, value in enumerate(values):
            metrics = dict.fromkeys(METRIC_COLUMNS, 0.5) | {"iou_face_mask": value, "truth_pixels": 10.0}
            name = f"{kind}-{number}"
            known = {"id": name, "status": "ok", "kind": kind, "face_id": name, "cutout_id": name}
            rows.append({"rung": rung, "head": head} | known | metrics)
    return pd.DataFrame(rows)


def test_abstention_takes_back_low_scores_only() -> None:
    table = pd.DataFrame(
        {
            "kind": ["clean", "clean", "clean", "clean", "decoy"],
            "face_id": ["a", "b", "c", "d", "a"],
            "occlusion_score": [0.30, 0.05, 0.20, 0.01, 0.5],
            "false_positive_area": [8.0, 3.0, 0.9, 1.0, 2.0],
        }
    )
    found = estimate_clean_faces(table, 0.1)
    assert found["chain/clean_marked"].mean == 0.25  # a; b is below the threshold, c and d mark no more than 1 %
    assert found["chain/clean_marked_always"].mean == 0.5
    assert (found["chain/decoy_marked"].mean, found["chain/decoy_marked"].n) == (1.0, 1)
    assert "chain/decoy_marked" not in estimate_clean_faces(table[:4], 0.1)
    never = estimate_clean_faces(table, -math.inf)["chain/clean_marked"]
    assert (never.mean, never.note) == (0.5, "never abstaining")


def test_clean_faces_run_through_the_chain() -> None:
    faces = [draw_face(256, seed)[0] for seed in range(2)]
    manifest = pd.DataFrame({"id": ["a", "b"], "kind": ["clean", "decoy"], "face_id": ["x", "x"], "path": ["", ""]})
    table = measure_clean_faces(faces, manifest, drawn_prefix(), None)
    assert table[["id", "kind", "face_id"]].to_numpy().tolist() == [["a", "clean", "x"], ["b", "decoy", "x"]]
    assert table["false_positive_area"].between(0, 100).all()


def test_the_headline_needs_ten_cutouts_of_a_kind() -> None:
    found = estimate_evaluation(evaluation({"hands": [0.5] * 10, "scarves": [1.0] * 5}), "chain/iou")
    assert (found["chain/iou"].mean, found["chain/iou"].n) == (0.5, 10)
    assert found["chain/iou_all"].mean == pytest.approx(10 / 15)
    few = estimate_evaluation(evaluation({"scarves": [1.0] * 5}), "chain/iou")
    assert sorted(few) == ["chain/iou_all"]


def test_without_truth_there_is_nothing_to_estimate() -> None:
    table = evaluation({"hands": [0.5] * 3}).assign(truth_pixels=np.nan)
    assert estimate_evaluation(table, "chain/iou") == {}


def test_the_ratio_is_that_of_the_means() -> None:
    ladder = pd.concat(
        [
            evaluation({"hands": [0.2, 0.6]}, head="reweighter"),
            evaluation({"hands": [0.1, 0.1]}, head="none"),
            evaluation({"hands": [0.8, 0.8]}, rung="true_prompts"),
        ]
    )
    ceilings = pd.DataFrame({"id": ["hands-0", "hands-1"], "kind": "hands", "iou": [0.9, 1.0]})
    found = estimate_chain(ladder, ceilings, "reweighter")
    assert found["chain/ratio"].mean == pytest.approx(0.5)
    assert found["chain/true_prompts"].mean == pytest.approx(0.8)
    assert (found["chain/iou_all"].mean, found["chain/iou_all"].ceiling) == (pytest.approx(0.4), pytest.approx(0.95))


def test_an_evaluation_is_a_folder_or_a_file(tmp_path: Path) -> None:
    evaluation({"hands": [0.5]}).to_parquet(tmp_path / "per_image.parquet")
    assert len(read_evaluation(tmp_path)) == len(read_evaluation(tmp_path / "per_image.parquet")) == 1


def test_what_is_no_evaluation_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such table"):
        read_evaluation(tmp_path)
    pd.DataFrame({"id": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="iou_face_mask"):
        read_evaluation(tmp_path / "other.parquet")
