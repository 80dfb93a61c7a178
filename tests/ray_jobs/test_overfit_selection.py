"""Which images: of a small store, by small tables."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.results import ResultsError
from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.overfit_selection import choose_images, worst_images
from s3pot.store.prompt_store import PromptStore
from tests.stored_images import add_images, empty_store


@pytest.fixture
def store(tmp_path: Path) -> PromptStore:
    """Five images with prompts, one without a face, one that failed."""
    made = empty_store(tmp_path / "store")
    add_images(made, "e", "d", "c", "b")
    add_images(made, "a", status="no_occlusion_prompts")
    add_images(made, "faceless", status="no_face")
    add_images(made, "broken", status="failed")
    return made


def chosen(store: PromptStore, **settings: Any) -> list[str]:
    return choose_images(store, OverfitConfig(store=store.root, **settings))


def write_run(folder: Path, **columns: list[Any]) -> Path:
    folder.mkdir()
    pd.DataFrame({"status": "ok"} | columns).to_parquet(folder / "per_image.parquet")
    return folder


class TestChoice:
    def test_all_with_prompts_in_the_order_of_their_ids(self, store: PromptStore) -> None:
        assert chosen(store) == ["a", "b", "c", "d", "e"]
        assert chosen(store, limit=2) == ["a", "b"]

    def test_by_id(self, store: PromptStore) -> None:
        assert chosen(store, images=("d", "a", "faceless")) == ["a", "d"]

    def test_an_unknown_id(self, store: PromptStore) -> None:
        with pytest.raises(FileNotFoundError, match=r"holds no image 'x' \(2 unknown ids in all\)"):
            chosen(store, images=("a", "y", "x"))

    def test_the_worst_that_can_be_overfitted(self, store: PromptStore, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", id=["faceless", "a", "b", "c"], iou_face_mask=[0.0, 0.9, 0.1, 0.5])
        assert chosen(store, worst=2, of=run) == ["b", "c"]


class TestWorst:
    def test_lowest_iou_where_truth_exists(self, tmp_path: Path) -> None:
        run = write_run(
            tmp_path / "run",
            id=list("abcdef"),
            status=["ok", "ok", "failed", "ok", "ok", "ok"],
            iou_face_mask=[0.5, 0.2, 0.0, math.nan, 0.2, 0.1],
            objective_after=[1.0, 2.0, 3.0, 99.0, 4.0, 5.0],
        )
        assert worst_images(run, 3, set("abcde")) == ["b", "e", "a"]
        assert worst_images(run, 99, set("abcdef")) == ["f", "b", "e", "a"]

    def test_without_truth_the_highest_objective(self, tmp_path: Path) -> None:
        nothing = [math.nan] * 3
        run = write_run(
            tmp_path / "run",
            id=list("abc"),
            iou_face_mask=nothing,
            objective_after=[0.1, 0.7, -3.0],
            occlusion_score=[0.0, 0.1, 0.2],
        )
        assert worst_images(run, 2, set("abc")) == ["b", "a"]

    def test_without_an_objective_the_lowest_score(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", id=list("abc"), iou_face_mask=[math.nan] * 3, occlusion_score=[0.3, 0.1, 0.2])
        assert worst_images(run, 2, set("abc")) == ["b", "c"]

    def test_no_such_run(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="name the folder of an `evaluate` or `overfit` run"):
            worst_images(tmp_path / "nowhere", 1, {"a"})

    def test_a_run_on_another_store(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", id=["x"], iou_face_mask=[0.5])
        with pytest.raises(ResultsError, match="ranks no image of this store"):
            worst_images(run, 1, {"a"})
