"""Masks of the supervised stand-in: written for every picture, and measured like any other method's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ray_jobs import baseline as job
from ray_jobs.baseline import BaselineConfig, baseline
from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed
from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import save_weights
from s3pot.images import decode_png, write_png
from s3pot.store.prompt_store import PromptStore


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(SupervisedSegmenter(), tmp_path / "supervised.safetensors", {"model": "supervised"})
    return tmp_path / "supervised.safetensors"


class Dark(SupervisedSegmenter):
    """Calls dark what is occluded."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 10.0 - 20.0 * torch.nn.functional.avg_pool2d(image.mean(dim=1), 2)


def test_the_masks_are_measured_by_evaluate(astronaut_store: PromptStore, weights: Path, tmp_path: Path) -> None:
    rows = astronaut_store.rows()
    rows[["id", "path"]].to_csv(tmp_path / "manifest.csv", index=False)
    masks = baseline(BaselineConfig(manifest=tmp_path / "manifest.csv", out=tmp_path / "masks", weights=weights))
    assert sorted(path.stem for path in masks.iterdir()) == sorted(rows["id"])
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, masks=masks, runs=tmp_path / "runs"))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert len(table) == len(rows)
    assert table.loc[table["truth_pixels"] > 0, "iou_face_mask"].notna().all()


def test_masks_lie_over_pictures_of_any_size(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "SupervisedSegmenter", Dark)
    picture = np.full((96, 64, 3), 230, np.uint8)
    picture[:48, :32] = 10
    write_png(tmp_path / "pictures" / "upright.png", picture)
    out = baseline(BaselineConfig(manifest=tmp_path / "pictures", out=tmp_path / "masks", weights=weights))
    [path] = out.iterdir()
    mask = decode_png(path.read_bytes())
    assert set(np.unique(mask)) == {0, 255}
    assert mask.shape == (96, 64)
    np.testing.assert_array_equal(mask > 127, picture[..., 0] < 100)


def test_an_unreadable_picture_is_named_and_loses_nothing_else(weights: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (200, 150, 130)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    frame = pd.DataFrame({"id": ["bad", "good"], "path": ["bad.png", "good.png"]})
    frame.to_parquet(tmp_path / "manifest.parquet")
    with pytest.raises(PartlyFailed, match=r"1 of 2 images failed, first: .*bad\.png"):
        baseline(BaselineConfig(manifest=tmp_path / "manifest.parquet", out=tmp_path / "masks", weights=weights))
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["good.png"]


def test_missing_weights_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.safetensors"):
        baseline(BaselineConfig(manifest=tmp_path, out=tmp_path / "m", weights=tmp_path / "nothing.safetensors"))
