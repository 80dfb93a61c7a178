"""Evaluation of heads and of foreign masks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed
from s3pot.checkpoints.reading import WeightsError
from s3pot.head.head_file import save_head
from s3pot.images import decode_png, write_png
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import small_reweighter


def test_table_summary_and_masks(
    astronaut_store: PromptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, head="none", runs=tmp_path))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert table["id"].tolist() == astronaut_store.rows(["status"])["id"].tolist()
    summary = json.loads((folder / "summary.json").read_text())
    occluded = table[table["truth_pixels"] > 0]
    assert summary["overall_iou_face_mask"] == pytest.approx(occluded["iou_face_mask"].mean())
    assert "iou_face_mask" in capsys.readouterr().out
    mask = decode_png((folder / "masks" / f"{table['id'].iloc[0]}.png").read_bytes())
    assert mask.shape == (256, 256)
    assert set(np.unique(mask)) <= {0, 255}


def test_truth_as_foreign_masks_is_perfect_inside_the_face(astronaut_store: PromptStore, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    rows = astronaut_store.rows()
    for row in rows.itertuples():
        write_png(masks / f"{row.id}.png", decode_png(Path(row.truth_path).read_bytes()))
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, masks=masks, runs=tmp_path / "runs"))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert (table["iou_unclipped"].dropna() == 1.0).all()
    assert (table["false_positive_area"].dropna() == 0.0).all()


def test_a_missing_mask_is_a_failed_row(astronaut_store: PromptStore, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with pytest.raises(PartlyFailed, match=r"5 of 5 images failed, first: .*\.png"):
        evaluate(EvaluateConfig(store=astronaut_store.root, masks=tmp_path / "masks", runs=tmp_path / "runs"))


def test_a_missing_head_is_one_sentence(astronaut_store: PromptStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file; train one"):
        evaluate(EvaluateConfig(store=astronaut_store.root, head=str(tmp_path / "head"), runs=tmp_path))


def test_a_head_for_another_prefix_is_refused(astronaut_store: PromptStore, tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    otsu = replace(astronaut_store.chain, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu")))
    save_head(small_reweighter(128), head, otsu, {})
    with pytest.raises(WeightsError, match=r"selector\.kind otsu there and greedy here"):
        evaluate(EvaluateConfig(store=astronaut_store.root, head=str(head), runs=tmp_path))
