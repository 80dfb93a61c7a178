"""The training job on a real store, with one and two DDP workers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_jobs.train import HEAD_FILE, TrainConfig, train
from s3pot.chain import load_reweighter, load_sam
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import TrainingConfig, train_head
from s3pot.store.prompt_store import PromptStore, StoreError

TRAINING = TrainingConfig(epochs=2, batch_size=4, learning_rate=1e-3)


def _config(store: PromptStore, runs: Path, workers: int) -> TrainConfig:
    return TrainConfig(
        store=store.root, dev_store=store.root, training=TRAINING, workers=workers, name=f"w{workers}", runs=runs
    )


@pytest.fixture(scope="module")
def trained(astronaut_store: PromptStore, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of the same training with one and with two workers."""
    runs = tmp_path_factory.mktemp("train-runs")
    return {workers: train(_config(astronaut_store, runs, workers)) for workers in (1, 2)}


def test_history_has_objective_and_dev_iou(trained: dict[int, Path]) -> None:
    history = [json.loads(line) for line in (trained[1] / "history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == [0, 1]
    assert all(np.isfinite(entry["total"]) and 0 <= entry["dev_iou"] <= 1 for entry in history)


def test_the_job_trains_what_the_library_trains(trained: dict[int, Path], astronaut_store: PromptStore) -> None:
    sam = load_sam(astronaut_store.chain)
    torch.manual_seed(TRAINING.seed)
    config = _config(astronaut_store, trained[1], 1)
    alone = PromptReweighter(config.head.build(sam.embed_dim))
    train_head(alone, sam, astronaut_store.records(), TRAINING, config.objective)
    stored = load_reweighter(trained[1] / HEAD_FILE)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(stored.state_dict()[name], value, atol=1e-4, rtol=1e-3)


def test_two_workers_train_the_same_head_as_one(trained: dict[int, Path]) -> None:
    one, two = (load_reweighter(trained[workers] / HEAD_FILE).state_dict() for workers in (1, 2))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=2e-3, rtol=1e-2)
    losses = [
        [json.loads(line)["total"] for line in (trained[workers] / "history.jsonl").read_text().splitlines()]
        for workers in (1, 2)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3, atol=1e-3)


def test_a_trained_run_is_not_trained_again(trained: dict[int, Path], astronaut_store: PromptStore) -> None:
    before = (trained[1] / HEAD_FILE).stat().st_mtime_ns
    assert train(_config(astronaut_store, trained[1].parent.parent, 1)) == trained[1]
    assert (trained[1] / HEAD_FILE).stat().st_mtime_ns == before


def test_a_missing_store_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        train(TrainConfig(store=tmp_path / "nowhere", runs=tmp_path))
