"""One trial: what its folder holds, that it is the library's own training, and that failure is a result."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from ray_jobs.train_worker import HEAD_FILE, read_history
from ray_jobs.trial import (
    TABLE,
    TrialConfig,
    TrialSettings,
    attempt_trial,
    finish_trial,
    learned_numbers,
    read_result,
    read_trial,
    run_trial,
)
from s3pot.evaluation import evaluate_store
from s3pot.head.head_file import load_reweighter
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.head.training import TrainingConfig, train_head
from s3pot.store.prompt_store import PromptStore


@pytest.fixture(scope="module")
def trial(astronaut_store: PromptStore) -> TrialConfig:
    ids = tuple(astronaut_store.rows(["status"])["id"])
    settings = TrialSettings(
        chain=replace(astronaut_store.chain, device="cpu"),
        training=TrainingConfig(epochs=2, learning_rate=1e-3, seed=5),
        objective=ObjectiveConfig(variant="bounded"),
    )
    return TrialConfig(
        settings=settings,
        train_store=astronaut_store.root,
        evaluate_store=astronaut_store.root,
        train_images=ids[1:4],
        evaluate_images=ids[:3],
    )


@pytest.fixture(scope="module")
def folder(trial: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trial") / "one"
    run_trial(trial, place)
    return place


def test_it_is_the_librarys_training_and_evaluation(trial: TrialConfig, folder: Path) -> None:
    assert trial.train_store is not None
    store = PromptStore(trial.train_store)
    sam = store.load_sam("cpu")
    torch.manual_seed(5)
    head = PromptReweighter(ReweighterConfig(embed_dim=sam.embed_dim, num_heads=4, num_layers=1))
    records = store.records(set(trial.train_images))
    reports = train_head(head, sam, records, trial.settings.training, trial.settings.objective)
    expected = evaluate_store(store, sam, head, ids=trial.evaluate_images)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / TABLE), expected)
    history = read_history(folder)
    assert [epoch["total"] for epoch in history] == [report.total for report in reports]
    result = read_result(folder)
    assert result is not None
    assert result["iou_face_mask"] == expected["iou_face_mask"].mean() == history[-1]["iou_face_mask"]
    assert (result["status"], result["epochs"], result["images"]) == ("ok", 2, 3)
    assert result["objective"] == reports[-1].total
    assert result["prompt_precision"] == expected["prompt_precision"].mean()
    kept = load_reweighter(folder / HEAD_FILE, chain=store.chain)
    for name, value in head.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value), name


def test_its_folder_is_enough_to_repeat_it(trial: TrialConfig, folder: Path, tmp_path: Path) -> None:
    assert read_trial(folder) == trial
    torch.manual_seed(99)  # whatever was drawn before
    again = run_trial(read_trial(folder), tmp_path / "again")
    before = read_result(folder)
    assert before is not None
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}
    histories = [[learned_numbers(epoch) for epoch in read_history(place)] for place in (folder, tmp_path / "again")]
    assert histories[0] == histories[1]


def test_another_seed_is_another_head(trial: TrialConfig, folder: Path, tmp_path: Path) -> None:
    other = replace(trial.settings, training=replace(trial.settings.training, seed=6))
    run_trial(replace(trial, settings=other), tmp_path / "other")
    assert read_history(tmp_path / "other")[-1]["total"] != read_history(folder)[-1]["total"]


def test_without_a_reweighter_nothing_is_trained(trial: TrialConfig, tmp_path: Path) -> None:
    off = replace(trial, settings=replace(trial.settings, reweighter="off"), train_store=None, train_images=())
    result = run_trial(off, tmp_path / "off")
    store = PromptStore(trial.evaluate_store)
    expected = evaluate_store(store, store.load_sam("cpu"), None, ids=trial.evaluate_images)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "off" / TABLE), expected)
    assert (result["epochs"], result["objective"]) == (0, None)
    assert not (tmp_path / "off" / HEAD_FILE).exists()


def test_a_trial_that_is_stopped_early_has_the_result_of_its_last_epoch(trial: TrialConfig, tmp_path: Path) -> None:
    class StoppedByScheduler(BaseException):
        pass

    def stop(epoch: dict[str, float]) -> None:
        raise StoppedByScheduler

    place = tmp_path / "stopped"
    with pytest.raises(StoppedByScheduler):
        attempt_trial(replace(trial, evaluate_every=1), place, stop)
    assert read_result(place) is None
    result = finish_trial(place, 1.0)
    assert (result["status"], result["epochs"]) == ("ok", 1)
    assert result["iou_face_mask"] == read_history(place)[0]["iou_face_mask"]


def test_failure_is_a_result(trial: TrialConfig, tmp_path: Path) -> None:
    result = attempt_trial(replace(trial, train_store=tmp_path / "nowhere"), tmp_path / "bad")
    assert result == read_result(tmp_path / "bad")
    assert result["status"] == "failed"
    assert "no store here" in result["error"]
    assert "Traceback" in result["traceback"]
    json.loads((tmp_path / "bad" / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_a_store_of_another_chain_is_refused(trial: TrialConfig, tmp_path: Path) -> None:
    other = replace(trial.settings.chain, prefix=replace(trial.settings.chain.prefix, feature_enhancement=True))
    result = attempt_trial(replace(trial, settings=replace(trial.settings, chain=other)), tmp_path / "bad")
    assert "made by another configuration" in result["error"]


@pytest.mark.parametrize("wrong", [{"evaluate_images": ()}, {"train_store": None}, {"train_images": ()}])
def test_there_must_be_something_to_do(trial: TrialConfig, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(trial, **wrong)  # type: ignore[arg-type]
