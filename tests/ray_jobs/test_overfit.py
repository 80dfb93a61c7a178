"""The per-image fleet: same result whatever the packing, resumable, a failing image is a row."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ray_jobs.job_cli import PartlyFailed
from ray_jobs.overfit import OverfitConfig, overfit
from s3pot.checkpoints.reading import WeightsError
from s3pot.head.head_file import save_head
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import small_reweighter

IMAGES = 3


@pytest.fixture(scope="module")
def packed(astronaut_store: PromptStore, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of the same fleet with one image and with three images per trial."""
    runs = tmp_path_factory.mktemp("overfit-runs")
    return {
        size: overfit(
            OverfitConfig(
                store=astronaut_store.root, steps=4, limit=IMAGES, images_per_trial=size, name=f"p{size}", runs=runs
            )
        )
        for size in (1, IMAGES)
    }


def test_rows_before_and_after(packed: dict[int, Path]) -> None:
    table = pd.read_parquet(packed[1] / "per_image.parquet")
    assert len(table) == IMAGES
    assert {"iou_before", "iou_face_mask", "objective_before", "objective_after", "seconds"} <= set(table.columns)
    assert (table["objective_after"] < table["objective_before"]).all()
    assert sorted(path.stem for path in (packed[1] / "masks").iterdir()) == sorted(table["id"])


def test_packing_does_not_change_results(packed: dict[int, Path]) -> None:
    single, together = (pd.read_parquet(packed[size] / "per_image.parquet") for size in (1, IMAGES))
    pd.testing.assert_frame_equal(single.drop(columns="seconds"), together.drop(columns="seconds"))


def test_running_again_does_only_what_is_missing(packed: dict[int, Path], astronaut_store: PromptStore) -> None:
    folder = packed[IMAGES]
    before = {path: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}
    name = folder.name
    overfit(OverfitConfig(store=astronaut_store.root, steps=4, limit=IMAGES + 1, name=name, runs=folder.parent.parent))
    parts = set((folder / "parts").iterdir())
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert len(parts) == len(before) + 1
    assert len(pd.read_parquet(folder / "per_image.parquet")) == IMAGES + 1


def test_an_image_that_fails_is_a_row(astronaut_store: PromptStore, tmp_path: Path) -> None:
    # A copy of the store that lost the shard of its images.
    broken = tmp_path / "store"
    (broken / "shards").mkdir(parents=True)
    (broken / "store.json").write_text((astronaut_store.root / "store.json").read_text())
    (broken / "manifest").symlink_to(astronaut_store.root / "manifest")
    with pytest.raises(PartlyFailed, match="2 of 2 images failed"):
        overfit(OverfitConfig(store=broken, steps=2, limit=2, runs=tmp_path / "runs"))


def test_an_unknown_image_is_one_sentence(astronaut_store: PromptStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no image 'nobody'"):
        overfit(OverfitConfig(store=astronaut_store.root, images=("nobody",), runs=tmp_path))


def test_the_file_run_as_a_program(astronaut_store: PromptStore, repository: Path, tmp_path: Path) -> None:
    words = [f"store={astronaut_store.root}", "steps=1", "limit=1", "name=alone", f"runs={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "ray_jobs/overfit.py", *words], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(tmp_path / "overfit" / "alone" / "per_image.parquet")
    assert rows["steps"].tolist() == [1]


def test_a_head_for_another_prefix_is_refused(astronaut_store: PromptStore, tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    otsu = replace(astronaut_store.chain, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu")))
    save_head(small_reweighter(128), head, otsu, {})
    with pytest.raises(WeightsError, match=r"selector\.kind otsu there and greedy here"):
        overfit(OverfitConfig(store=astronaut_store.root, start_from=head, steps=1, runs=tmp_path))
