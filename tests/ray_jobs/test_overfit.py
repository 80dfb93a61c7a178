"""The per-image fleet: same result whatever the packing, resumable, a failing image is a row, stopped as other jobs."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from mlflow.tracking import MlflowClient

from ray_jobs import overfit_fleet
from ray_jobs.job_cli import PartlyFailed
from ray_jobs.overfit import OverfitConfig, overfit
from ray_jobs.overfit_trial import overfit_trial
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError
from s3pot.head.head_file import load_reweighter, save_head
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore
from tests.ray_jobs.mlflow_stand_ins import put_database, stored_runs
from tests.stand_ins import small_reweighter

IMAGES = 3
# Name of the run -> how it is packed.
PACKINGS: dict[str, dict[str, Any]] = {
    "single": {"images_per_trial": 1, "concurrent": 2},
    "packed": {"images_per_trial": 3, "concurrent": 1, "keep_heads": True},
    "together": {"images_per_trial": 3, "together": 3, "concurrent": 1, "child_runs": True},
}


def fleet(store: PromptStore, runs: Path, **settings: Any) -> OverfitConfig:
    return OverfitConfig(**({"store": store.root, "steps": 4, "limit": IMAGES, "runs": runs} | settings))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("overfit-runs")
    put_database(empty_database, folder)
    return folder


@pytest.fixture(scope="module")
def packed(astronaut_store: PromptStore, runs: Path) -> dict[str, Path]:
    """Folders of the same fleet, packed in several ways."""
    return {name: overfit(fleet(astronaut_store, runs, name=name, **how)) for name, how in PACKINGS.items()}


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "per_image.parquet")


class TestResults:
    def test_rows_before_and_after(self, packed: dict[str, Path]) -> None:
        rows = table(packed["single"])
        assert len(rows) == IMAGES
        assert (rows["objective_after"] < rows["objective_before"]).all()
        assert rows["iou_before"].dropna().between(0, 1).all()
        assert set(rows["start"]) == {"scratch"}
        assert sorted(path.stem for path in (packed["single"] / "masks").iterdir()) == sorted(rows["id"])

    def test_packing_and_actors_do_not_change_a_bit(self, packed: dict[str, Path]) -> None:
        one, other = (table(packed[name]).drop(columns="seconds") for name in ("single", "packed"))
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        curves = [pd.read_parquet(packed[name] / "curves.parquet") for name in ("single", "packed")]
        pd.testing.assert_frame_equal(*curves, check_exact=True)

    def test_nor_does_optimising_together_beyond_rounding(self, packed: dict[str, Path]) -> None:
        one, other = (table(packed[name]).drop(columns="seconds") for name in ("single", "together"))
        pd.testing.assert_frame_equal(one, other, rtol=0.02, atol=2e-3)

    def test_curves(self, packed: dict[str, Path]) -> None:
        curves, rows = pd.read_parquet(packed["single"] / "curves.parquet"), table(packed["single"]).set_index("id")
        assert curves.groupby("id")["step"].apply(list).tolist() == [[0, 1, 2, 3, 4]] * IMAGES
        ends = curves[curves["step"] == 4].set_index("id")["total"]
        pd.testing.assert_series_equal(ends, rows["objective_after"], check_names=False)

    def test_heads_are_kept_when_asked_for(self, packed: dict[str, Path]) -> None:
        heads = sorted((packed["packed"] / "heads").iterdir())
        assert [path.stem for path in heads] == table(packed["packed"])["id"].tolist()
        assert load_reweighter(heads[0]).config.embed_dim == 128
        assert not (packed["single"] / "heads").exists()

    def test_one_run_in_mlflow_and_children_only_when_asked_for(self, packed: dict[str, Path], runs: Path) -> None:
        uri = f"sqlite:///{runs / 'mlflow.db'}"
        found = stored_runs(uri)
        names = [run.info.run_name for run in found]
        assert sorted(name for name in names if name in PACKINGS) == sorted(PACKINGS)
        [parent] = [run for run in found if run.info.run_name == "together"]
        children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
        assert sorted(run.info.run_name for run in children) == table(packed["together"])["id"].tolist()
        files = {each.path for each in MlflowClient(uri).list_artifacts(parent.info.run_id, "figures")}
        assert files == {"figures/gains.png", "figures/before-after.png", "figures/overfitting.png"}


class TestAgain:
    def test_does_only_what_is_missing(self, packed: dict[str, Path], astronaut_store: PromptStore, runs: Path) -> None:
        """An image that was not asked for, and one whose head is gone."""
        folder = packed["packed"]
        gone, *others = sorted((folder / "heads").iterdir())
        content = gone.read_bytes()
        gone.unlink()
        before = {path: path.stat().st_mtime_ns for path in (*others, *(folder / "parts").iterdir())}
        overfit(fleet(astronaut_store, runs, name="packed", keep_heads=True, limit=IMAGES + 1))
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert gone.read_bytes() == content
        assert len(list((folder / "parts").iterdir())) == 2
        assert len(table(folder)) == len(list((folder / "heads").iterdir())) == IMAGES + 1

    @pytest.mark.parametrize("change", [{"steps": 5}, {"patience": 2}, {"seed": 1}])
    def test_another_fleet_of_the_same_name_is_refused(
        self, packed: dict[str, Path], astronaut_store: PromptStore, runs: Path, change: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigError, match="holds a fleet of another configuration or another store"):
            overfit(fleet(astronaut_store, runs, name="single", **change))

    def test_the_worst_of_a_run_until_they_are_flat(
        self,
        packed: dict[str, Path],
        astronaut_store: PromptStore,
        tmp_path: Path,
        empty_database: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        put_database(empty_database, tmp_path)
        caplog.set_level(logging.INFO)
        worst = table(packed["together"]).sort_values("iou_face_mask")["id"].head(2)
        at_once = {"patience": 1, "min_improvement": 1e9}
        folder = overfit(fleet(astronaut_store, tmp_path, worst=2, of=packed["together"], concurrent=1, **at_once))
        rows = table(folder)
        assert rows["id"].tolist() == sorted(worst)
        assert rows["stopped"].tolist() == ["flat", "flat"]
        assert rows["steps"].tolist() == [1, 1]
        assert "2/2 images, 0 failed" in caplog.text


class TestFailures:
    def test_failed_images_are_rows_and_done_again_when_asked(
        self, astronaut_store: PromptStore, tmp_path: Path, empty_database: Path
    ) -> None:
        put_database(empty_database, tmp_path / "runs")
        # A copy of the store that lost the shard of its images, for a time.
        broken = tmp_path / "store"
        (broken / "shards").mkdir(parents=True)
        (broken / "store.json").write_text((astronaut_store.root / "store.json").read_text())
        (broken / "manifest").symlink_to(astronaut_store.root / "manifest")
        config = fleet(PromptStore(broken), tmp_path / "runs", steps=2, limit=2)
        for _ in range(2):  # the second time there is nothing to do
            with pytest.raises(PartlyFailed, match=r"2 of 2 images failed, first: .*safetensors"):
                overfit(config)
        (broken / "shards").rmdir()
        (broken / "shards").symlink_to(astronaut_store.root / "shards")
        rows = table(overfit(replace(config, retry_failed=True)))
        assert not (rows["status"] == "failed").any()
        assert rows["iou_before"].notna().any()

    def test_an_unknown_image_is_one_sentence(self, astronaut_store: PromptStore, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="holds no image 'nobody'"):
            overfit(fleet(astronaut_store, tmp_path, images=("nobody",)))

    def test_a_head_for_another_prefix_is_refused(self, astronaut_store: PromptStore, tmp_path: Path) -> None:
        head = tmp_path / "head.safetensors"
        otsu = replace(astronaut_store.chain, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu")))
        save_head(small_reweighter(128), head, otsu, {})
        with pytest.raises(WeightsError, match=r"selector\.kind otsu there and greedy here"):
            overfit(fleet(astronaut_store, tmp_path, start_from=head))

    def test_a_store_of_other_weights_is_refused_before_anything_starts(
        self, astronaut_store: PromptStore, tmp_path: Path, random_weights: Path
    ) -> None:
        with pytest.raises(StoreError, match="made by another configuration or other weights"):
            overfit(fleet(astronaut_store, tmp_path))
        assert list(tmp_path.iterdir()) == []


def deadly_trial(trial: dict[str, Any], *, config: OverfitConfig, folder: str, images: pa.Table) -> None:
    """`overfit_trial`, killed by one image: the second of all."""
    chunk = images.slice(trial["chunk"]["first"], trial["chunk"]["count"])["id"].to_pylist()
    if (Path(folder) / "deadly").read_text() in chunk:
        os.kill(os.getpid(), signal.SIGKILL)
    overfit_trial(trial, config=config, folder=folder, images=images)


@pytest.mark.chaos
def test_an_image_that_kills_its_process_is_the_only_one_that_fails(
    packed: dict[str, Path], astronaut_store: PromptStore, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfit_fleet, "overfit_trial", deadly_trial)
    expected = table(packed["together"]).drop(columns="seconds")
    folder = runs / "overfit" / "deadly"
    folder.mkdir()
    (folder / "deadly").write_text(expected["id"][1])
    with pytest.raises(PartlyFailed, match="1 of 3 images failed, first: its trial died: The actor is dead because"):
        overfit(fleet(astronaut_store, runs, name="deadly", images_per_trial=2))
    rows = table(folder).drop(columns="seconds")
    assert (rows["status"] == "failed").tolist() == [False, True, False]
    pd.testing.assert_frame_equal(rows.drop(index=1), expected.drop(index=1), rtol=0.02, atol=2e-3)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_the_file_run_as_a_program_stops_as_asked_and_goes_on(
    number: signal.Signals,
    code: int,
    word: str,
    astronaut_store: PromptStore,
    ray_cluster: dict[str, object],
    empty_database: Path,
    repository: Path,
    tmp_path: Path,
) -> None:
    put_database(empty_database, tmp_path)
    folder, output = tmp_path / "overfit" / "x", tmp_path / "output.txt"
    words = [f"store={astronaut_store.root}", f"runs={tmp_path}", "name=x", "steps=40", "images_per_trial=1"]
    environment = os.environ | {"RAY_ADDRESS": str(ray_cluster["address"]), "MLFLOW_TRACKING_URI": ""}
    with output.open("wb") as stream:
        job = subprocess.Popen(
            [sys.executable, "ray_jobs/overfit.py", *words, "concurrent=1"],
            cwd=repository,
            env=environment,
            stderr=stream,
            stdout=stream,
            start_new_session=True,
            # As a terminal has it, even where the tests run in the background of a shell.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    end = time.monotonic() + 120
    while len(done := list((folder / "parts").glob("[!.]*"))) < 2:
        assert job.poll() is None, output.read_text()
        assert time.monotonic() < end, "nothing was done"
        time.sleep(0.02)
    os.killpg(job.pid, number)
    assert job.wait(timeout=60) == code, output.read_text()
    said = output.read_text()
    assert said.count(f"{word}: what is finished is kept; run the same command again to go on") == 1
    assert "Traceback" not in said
    assert [run.info.status for run in stored_runs(f"sqlite:///{tmp_path / 'mlflow.db'}")] == ["KILLED"]
    assert not (folder / "per_image.parquet").exists()
    stamps = {path: path.stat().st_mtime_ns for path in done}
    assert len(stamps) < 5
    overfit(fleet(astronaut_store, tmp_path, name="x", images_per_trial=1, limit=0, steps=40))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(table(folder)) == 5
