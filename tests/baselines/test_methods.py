"""Every baseline by its name, over a small encoded store."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from s3pot.baselines.methods import BaselineName, BaselineParts, baseline_predictor
from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.embedded import save_weights
from s3pot.evaluation import evaluate_with
from s3pot.ladder import climb, read_ladder_images
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import drawn_prefix

FACE_SEGMENTERS = ("persam", "persam_f", "gfsam", "parser_hole")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> BaselineParts:
    path = tmp_path_factory.mktemp("supervised") / "supervised.safetensors"
    torch.manual_seed(0)
    save_weights(SupervisedSegmenter(), path, {"model": "supervised"})
    return BaselineParts(sam=drawn_prefix().sam, supervised_weights=path)


def measured(
    name: BaselineName, store: PromptStore, parts: BaselineParts
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    masks: dict[str, np.ndarray] = {}
    table = evaluate_with(store, baseline_predictor(name, store, parts), on_mask=masks.__setitem__)
    return table.set_index("id"), masks


@pytest.mark.parametrize("name", get_args(BaselineName))
def test_every_baseline_measures_every_image(
    name: BaselineName,
    drawn_store: PromptStore,
    parts: BaselineParts,
    random_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("s3pot.baselines.persam._STEPS", 3)
    table, masks = measured(name, drawn_store, parts)
    assert sorted(masks) == ["i0", "i1", "i2"]
    assert table["iou_face_mask"].notna().tolist() == [True, True, False]
    assert table.loc["i2", "false_positive_area"] >= 0.0
    if name in FACE_SEGMENTERS:
        faces = {face: mask for face, mask in masks.items() if mask.any()}
        assert all(table.loc[face, "occlusion_score"] > 0 for face in faces)


def test_controls_are_those_of_the_ladder(drawn_store: PromptStore, parts: BaselineParts, drawn_manifest: Path) -> None:
    images = read_ladder_images(pd.read_parquet(drawn_manifest), 256)
    rungs: list[BaselineName] = ["random_prompts", "other_prompts", "true_prompts"]
    climbed = climb(images, drawn_prefix(), {"none": None}, rungs)  # type: ignore[arg-type]
    for rung in rungs:
        expected = climbed[climbed["rung"] == rung].set_index("id")["iou_face_mask"]
        found = measured(rung, drawn_store, parts)[0]["iou_face_mask"]
        # The store holds tokens in fp16.
        pd.testing.assert_series_equal(found, expected, check_names=False, atol=0.02)


def test_the_supervised_network_needs_its_weights(drawn_store: PromptStore) -> None:
    with pytest.raises(ValueError, match="needs weights=FILE"):
        baseline_predictor("supervised", drawn_store, BaselineParts(sam=drawn_prefix().sam))


def test_prompts_from_truth_need_truth(drawn_store: PromptStore, parts: BaselineParts) -> None:
    row = next(drawn_store.rows().itertuples(index=False))._replace(truth_path=None)
    assert baseline_predictor("true_prompts", drawn_store, parts)([row]) == {}
