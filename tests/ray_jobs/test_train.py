"""The training job on a real store: one and two DDP workers, what it keeps, and what it survives."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.train
import torch

from ray_jobs import train as job
from ray_jobs.job_cli import PartlyFailed
from ray_jobs.tracking import tracking_uri
from ray_jobs.train import train
from ray_jobs.train_config import TrainConfig
from ray_jobs.train_worker import BEST, HEAD_FILE, read_history, train_worker
from s3pot.chain import load_sam
from s3pot.config import ConfigError
from s3pot.head.head_file import load_reweighter, read_prefix
from s3pot.head.prefix_identity import prefix_description
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import TrainingConfig, train_head
from s3pot.store.prompt_store import PromptStore, StoredRecords, StoreError
from tests.ray_jobs.mlflow_stand_ins import stored_metrics, stored_runs

# Five images in batches of four: the last holds one.
TRAINING = TrainingConfig(epochs=3, batch_size=4, learning_rate=1e-3)
LEARNED = ("epoch", "total", "recall_occlusion", "recall_face", "face_penalty", "empty_face", "learning_rate")


def config_of(store: PromptStore, runs: Path, **settings: Any) -> TrainConfig:
    defaults = {"dev_store": store.root, "training": TRAINING, "keep_best": 2, "cpus_per_worker": 1}
    return TrainConfig(store=store.root, runs=runs, **defaults | settings)


@pytest.fixture(autouse=True)
def _quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray Train takes a report with a checkpoint at this pace.
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train-runs")


@pytest.fixture(scope="module")
def trained(astronaut_store: PromptStore, runs: Path) -> dict[int, Path]:
    """Folders of the same training with one and with two workers."""
    return {workers: train(config_of(astronaut_store, runs, workers=workers, name=f"w{workers}")) for workers in (1, 2)}


def learned(folder: Path) -> list[list[float]]:
    """What a history says about learning, not about the machine."""
    return [[epoch[name] for name in LEARNED] for epoch in read_history(folder)]


def head_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_reweighter(folder / HEAD_FILE).state_dict()


def assert_like(folder: Path, undisturbed: Path) -> None:
    """Each epoch once, the same curve, the same head, bit for bit, and nothing left behind."""
    assert learned(folder) == learned(undisturbed)
    expected = head_of(undisturbed)
    for name, tensor in head_of(folder).items():
        assert torch.equal(tensor, expected[name]), name
    assert sorted(path.name for path in (folder / BEST).iterdir()) == sorted(
        path.name for path in (undisturbed / BEST).iterdir()
    )
    assert len(list((folder / "ray").glob("checkpoint_*/"))) == 1


class TestWhatIsKept:
    def test_history_has_objective_speed_memory_and_dev_iou(self, trained: dict[int, Path]) -> None:
        history = read_history(trained[2])
        assert [epoch["epoch"] for epoch in history] == [0, 1, 2]
        for epoch in history:
            assert np.isfinite(epoch["total"])
            assert 0 <= epoch["dev_iou"] <= 1
            assert epoch["images_per_second"] == pytest.approx(5 / epoch["seconds"])
            assert 0 < epoch["data_wait"] < 1
            assert 50 * 2**20 < epoch["peak_memory"] < 8 * 2**30
            assert epoch["workers"] == 2

    def test_mlflow_has_every_epoch(self, trained: dict[int, Path], runs: Path) -> None:
        uri = tracking_uri(runs)
        (run,) = [run for run in stored_runs(uri) if run.info.run_name == trained[2].name]
        logged = {(name, step): value for name, value, step, _ in stored_metrics(uri, run)}
        for epoch in read_history(trained[2]):
            for name in ("total", "dev_iou"):
                assert logged[name, epoch["epoch"]] == epoch[name]

    def test_heads_of_the_lowest_objectives_stay(self, trained: dict[int, Path]) -> None:
        history = read_history(trained[1])
        lowest = sorted(history, key=lambda epoch: epoch["total"])[:2]
        kept = sorted((trained[1] / BEST).iterdir())
        assert [path.name for path in kept] == sorted(f"epoch-{epoch['epoch']:04d}.safetensors" for epoch in lowest)
        last = trained[1] / BEST / "epoch-0002.safetensors"
        if last in kept:
            assert all(
                torch.equal(value, head_of(trained[1])[name])
                for name, value in load_reweighter(last).state_dict().items()
            )

    def test_the_head_names_the_prefix_of_its_store(
        self, trained: dict[int, Path], astronaut_store: PromptStore
    ) -> None:
        for path in (trained[1] / HEAD_FILE, *(trained[1] / BEST).iterdir()):
            assert read_prefix(path) == prefix_description(astronaut_store.chain)

    def test_one_checkpoint_stays(self, trained: dict[int, Path]) -> None:
        for folder in trained.values():
            assert len(list((folder / "ray").glob("checkpoint_*/"))) == 1

    def test_inputs_are_written_down(self, trained: dict[int, Path], astronaut_store: PromptStore) -> None:
        inputs = json.loads((trained[1] / "inputs.json").read_text())
        assert inputs["store_identity"] == astronaut_store.description["identity"]
        assert inputs["images"] == len(astronaut_store.records()) == 5
        assert inputs == json.loads((trained[2] / "inputs.json").read_text())


def test_the_job_trains_what_the_library_trains(trained: dict[int, Path], astronaut_store: PromptStore) -> None:
    sam = load_sam(astronaut_store.chain)
    torch.manual_seed(TRAINING.seed)
    config = config_of(astronaut_store, trained[1])
    alone = PromptReweighter(config.head.build(sam.embed_dim))
    train_head(alone, sam, astronaut_store.records(), TRAINING, config.objective)
    stored = head_of(trained[1])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(stored[name], value, atol=1e-4, rtol=1e-3)


def test_two_workers_train_the_same_head_as_one(trained: dict[int, Path]) -> None:
    one, two = head_of(trained[1]), head_of(trained[2])
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=1e-2)
    np.testing.assert_allclose(learned(trained[1]), learned(trained[2]), rtol=1e-3, atol=1e-3)


class TestAgain:
    def test_a_trained_run_is_not_trained_again_whatever_the_workers(
        self, trained: dict[int, Path], astronaut_store: PromptStore, runs: Path
    ) -> None:
        before = (trained[1] / HEAD_FILE).stat().st_mtime_ns
        again = config_of(astronaut_store, runs, workers=2, min_workers=1, max_failures=9, name="w1")
        assert train(again) == trained[1]
        assert (trained[1] / HEAD_FILE).stat().st_mtime_ns == before

    @pytest.mark.parametrize("change", [{"training": replace(TRAINING, epochs=4)}, {"keep_best": 1}])
    def test_another_training_of_the_same_name_is_refused(
        self, trained: dict[int, Path], astronaut_store: PromptStore, runs: Path, change: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigError, match="holds a training of another configuration or of other images"):
            train(config_of(astronaut_store, runs, name="w1", **change))

    def test_another_store_under_the_same_name_is_refused(
        self, trained: dict[int, Path], astronaut_store: PromptStore, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = PromptStore.records
        monkeypatch.setattr(PromptStore, "records", lambda store: whole(store, set(whole(store).ids[1:])))
        with pytest.raises(ConfigError, match="or of other images: choose another name="):
            train(config_of(astronaut_store, runs, name="w1"))


def dying_worker(given: dict[str, Any]) -> None:
    """`train_worker`, whose process dies as if killed, once, when it reads its n-th image."""
    folder = Path(given["folder"])
    plan = json.loads((folder / "plan.json").read_text())
    read, whole = [0], StoredRecords.__getitem__

    def deadly(records: StoredRecords, index: int) -> Any:
        read[0] += 1
        if read[0] == plan["image"] and ray.train.get_context().get_world_rank() == plan["rank"]:
            marker = folder / "died"
            if not marker.exists():  # the next attempt lives
                marker.touch()
                while plan["registered"] and not (folder / "ray" / "checkpoint_manager_snapshot.json").exists():
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
        return whole(records, index)

    StoredRecords.__getitem__ = deadly  # type: ignore[method-assign]
    train_worker(given)


def plan_death(folder: Path, *, rank: int, image: int, registered: bool = True) -> None:
    """Plan a death, not before Ray Train knows of the first checkpoint, or at once."""
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"rank": rank, "image": image, "registered": registered}))


@pytest.mark.chaos
class TestLostWorkers:
    """Two workers read three images an epoch each: four, four and one of five, the last one twice."""

    @pytest.mark.parametrize(
        ("image", "registered", "pace"),
        [
            (5, True, "0.2"),  # in the middle of the second epoch
            (7, False, "2.0"),  # at the first image of the third: the checkpoint of the second is lost with the worker
        ],
    )
    def test_training_goes_on_by_itself_and_equals_an_undisturbed_one(
        self,
        trained: dict[int, Path],
        astronaut_store: PromptStore,
        runs: Path,
        monkeypatch: pytest.MonkeyPatch,
        image: int,
        registered: bool,
        pace: str,
    ) -> None:
        monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", pace)
        monkeypatch.setattr(job, "train_worker", dying_worker)
        name = f"killed-at-{image}"
        plan_death(runs / "train" / name, rank=1, image=image, registered=registered)
        folder = train(config_of(astronaut_store, runs, workers=2, name=name))
        assert (folder / "died").exists()
        assert_like(folder, trained[2])

    def test_a_run_that_gave_up_goes_on_with_another_number_of_workers(
        self,
        trained: dict[int, Path],
        astronaut_store: PromptStore,
        runs: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = runs / "train" / "given-up"
        # Alone it reads five images an epoch: this is in the middle of the second.
        plan_death(folder, rank=0, image=7)
        config = config_of(astronaut_store, runs, workers=1, max_failures=0, dev_store=None, name="given-up")
        with monkeypatch.context() as patched:
            patched.setattr(job, "train_worker", dying_worker)
            with pytest.raises(PartlyFailed, match="the same command goes on after the last epoch"):
                train(config)
        assert not (folder / HEAD_FILE).exists()
        # Three are wanted, there is room for two.
        assert train(replace(config, workers=3, min_workers=1)) == folder
        history = read_history(folder)
        assert [(epoch["epoch"], epoch["workers"]) for epoch in history] == [(0, 1), (1, 2), (2, 2)]
        np.testing.assert_allclose(learned(folder), learned(trained[1]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"dev_every": 0}, "dev_every must be at least 1"),
        ({"keep_best": -1}, "keep_best must be at least 0"),
        ({"cpus_per_worker": -1}, "cpus_per_worker must be at least 0"),
        ({"max_failures": -2}, "max_failures must be at least -1"),
        ({"workers": 2, "min_workers": 3}, r"min_workers must lie in \[1, workers = 2\]"),
        ({"min_workers": 0}, "min_workers must lie in"),
    ],
)
def test_settings_out_of_range(settings: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainConfig(store=Path("store"), **settings)


def test_a_missing_store_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        train(TrainConfig(store=tmp_path / "nowhere", runs=tmp_path))
