"""Sweeps for real: under Ray Tune, with stores, MLflow, failures and resumption; and every experiment file in small."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from ray import tune

from analysis.sweep_results import read_sweep
from ray_jobs import sweep as sweep_job
from ray_jobs import sweep_stores, sweep_trials
from ray_jobs.encode import EncodeConfig
from ray_jobs.encode_inputs import read_items
from ray_jobs.job_cli import PartlyFailed, resolve
from ray_jobs.rerun import rerun
from ray_jobs.sweep import SMOKE, plan_sweep, sweep
from ray_jobs.sweep_config import SweepConfig
from ray_jobs.sweep_record import TrialRecorder
from ray_jobs.sweep_stores import NeededStore
from ray_jobs.trial import RESULT, TrialConfig, attempt_trial
from s3pot.chain import load_aligner, load_prefix
from s3pot.config import ConfigError
from s3pot.store.encoding import encode_images
from s3pot.store.prompt_store import PromptStore
from s3pot.store.reprompting import reprompt_images
from tests.ray_jobs.mlflow_stand_ins import put_database, stored_runs

EXPERIMENTS = Path(__file__).resolve().parent.parent.parent / "experiments"
SWEEPS = sorted(path.name for path in EXPERIMENTS.glob("*.yaml") if "\ntitle:" in f"\n{path.read_text()}")
SETTING = ["base.chain.alignment=none", "base.training.epochs=1", "train_images=2", "evaluate_images=3", "seeds=[0,1]"]


@pytest.fixture(scope="module")
def place(astronaut_manifest: Path, ray_cluster: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sets `head` and `dev`, and the stores that the tests share."""
    folder = tmp_path_factory.mktemp("sweeps")
    for name in ("head", "dev"):
        (folder / "data" / name).mkdir(parents=True)
        shutil.copy(astronaut_manifest, folder / "data" / name / "manifest.parquet")
    return folder


@pytest.fixture
def runs(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_database(empty_database, tmp_path / "runs")
    return tmp_path / "runs"


def config(place: Path, runs: Path, *words: str, smoke: dict[str, Any] | None = None) -> SweepConfig:
    words = (f"data={place / 'data'}", f"stores={place / 'stores'}", f"runs={runs}", *words)
    if not any(word.endswith(".yaml") for word in words):
        words = ("title=Test", *SETTING, *words)
    return resolve(SweepConfig, list(words), smoke or {})


def run_trials_here(config: SweepConfig, recorder: TrialRecorder, folder: Path) -> None:
    for trial in recorder.todo:
        attempt_trial(trial.config, trial.folder(folder))
        recorder.ended(trial.id)


def encode_here(job: EncodeConfig) -> None:
    store = PromptStore.create(job.store, job.chain)
    known = set(store.rows(["status"])["id"])
    items = [item for item in read_items(job.input) if item["id"] not in known]
    prefix, aligner = load_prefix(job.chain), load_aligner(job.chain)
    store.append(encode_images(prefix, items, job.store, aligner, keep_reference_tokens=job.keep_reference_tokens))


def reprompt_here(drawn: Sequence[NeededStore]) -> None:
    for store in drawn:
        assert store.source is not None
        reprompt_images(PromptStore(store.source), store.root, store.chain, store.images.ids)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All in this process, where Ray is not what is tested; yields the names of the stores that are encoded."""
    encoded: list[str] = []
    monkeypatch.setattr(sweep_job, "run_trials", run_trials_here)
    monkeypatch.setattr(sweep_stores, "encode", lambda job: (encoded.append(job.store.name), encode_here(job)))
    monkeypatch.setattr(sweep_stores, "_reprompt_all", reprompt_here)
    return encoded


@pytest.mark.parametrize("name", SWEEPS)
def test_every_experiment_file_runs_in_small(name: str, place: Path, runs: Path, without_ray: list[str]) -> None:
    settings = config(place, runs, str(EXPERIMENTS / name), smoke=SMOKE)
    folder = sweep(settings)
    found = read_sweep(folder)
    assert 1 <= len(found.cells) <= 2
    assert (found.trials["status"] == "ok").all(), found.trials["error"].tolist()
    assert found.cells["mean"].notna().all()
    assert found.base in found.cells.index


def test_a_sweep_under_ray(place: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores, two settings, two seeds; a trial fails in the first attempt, and the second attempt does only that."""
    words = ("grid.objective.lam=[0.25,0.5]", "grid.reweighter=[on]", "base.chain.prefix.feature_enhancement=true")
    settings = replace(config(place, runs, *words, "name=one"), stores=tmp_path / "stores")
    real = sweep_trials.plan_trials

    def with_one_that_fails(*arguments: Any) -> Any:
        trials = real(*arguments)
        return [replace(trials[0], config=replace(trials[0].config, train_store=Path("/nowhere"))), *trials[1:]]

    with monkeypatch.context() as patched:
        patched.setattr(sweep_job, "plan_trials", with_one_that_fails)
        with pytest.raises(
            PartlyFailed, match=r"1 of 4 trials failed, first .* seed 0: StoreError: /nowhere: no store"
        ):
            sweep(settings)
    folder = runs / "sweep" / "one"
    first = pd.read_parquet(folder / "trials.parquet")
    assert first["status"].tolist() == ["failed", "ok", "ok", "ok"]
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob(RESULT)}
    assert sweep(settings) == folder
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["status"].tolist() == ["ok"] * 4
    changed = [path.parent.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == [first["trial"][0]]
    _check_mlflow(runs, table)
    assert not (folder / "tune").exists()
    repeated = rerun(folder / "trials" / table["trial"][3])
    assert (repeated.difference, repeated.largest) == (0.0, 0.0), "the same number outside the tuner"


def _check_mlflow(runs: Path, table: pd.DataFrame) -> None:
    """Each of the two attempts is a run with all trials as children; the second is complete."""
    found = stored_runs(f"sqlite:///{runs / 'mlflow.db'}")
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags and run.info.run_name == "one"]
    assert [run.info.status for run in parents] == ["FINISHED", "FINISHED"]
    for parent, failed in zip(parents, (1, 0), strict=True):
        children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert sorted(run.data.tags["s3pot.trial"] for run in children) == sorted(table["trial"])
        assert sorted(run.info.status for run in children) == ["FAILED"] * failed + ["FINISHED"] * (4 - failed)
    assert parent.data.params["base.objective.variant"] == "paper"
    artifacts = [
        artifact.path for artifact in MlflowClient(f"sqlite:///{runs / 'mlflow.db'}").list_artifacts(parent.info.run_id)
    ]
    assert {"cells.parquet", "cells.md", "trials.parquet", "figures"} <= set(artifacts)
    for child in children:
        row = table[table["trial"] == child.data.tags["s3pot.trial"]].iloc[0]
        # What the compare view shows: the axes and the seed, nothing else.
        assert child.data.params == {
            "seed": str(row["seed"]),
            "objective.lam": str(row["objective.lam"]),
            "reweighter": "on",
        }
        assert {"s3pot.code", "s3pot.data", "s3pot.prefix"} <= set(child.data.tags)
        assert child.data.metrics["iou_face_mask"] == pytest.approx(row["iou_face_mask"])
        assert child.data.metrics["total"] == pytest.approx(row["objective"])


def test_a_search_stops_trials_early_and_all_have_results(place: Path, runs: Path) -> None:
    space = "{training.learning_rate: {low: 1e-5, high: 1e-2, log: true}}"
    words = (f"search.space={space}", "search.samples=4", "seeds=[0]", "base.training.epochs=4", "name=search")
    folder = sweep(config(place, runs, *words, "concurrent=1"))
    table = pd.read_parquet(folder / "trials.parquet")
    assert table["status"].tolist() == ["ok"] * 4
    assert table["epochs"].max() == 4
    assert table["epochs"].min() < 4, "one after the other, the worse ones are stopped"
    for trial, epochs in zip(table["trial"], table["epochs"], strict=True):
        history = (folder / "trials" / trial / "history.jsonl").read_text().splitlines()
        assert len(history) == epochs
        assert all("iou_face_mask" in json.loads(line) for line in history)


def run_or_die(drawn: dict[str, Any], *, trials: dict[str, TrialConfig], folder: str) -> None:
    """In the place of the trainable: one trial takes its process along."""
    trial = trials[drawn["trial"]]
    if trial.settings.objective.lam == 0.25:
        os._exit(1)
    attempt_trial(trial, Path(folder) / "trials" / drawn["trial"])
    tune.report({"done": 1})


def test_a_trial_whose_process_dies_is_a_row(place: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_trials, "_run_one", run_or_die)
    settings = config(place, runs, "grid.objective.lam=[0.25,0.5]", "seeds=[0]", "name=deadly")
    with pytest.raises(PartlyFailed, match=r"1 of 2 trials failed.*its process died"):
        sweep(settings)
    table = pd.read_parquet(runs / "sweep" / "deadly" / "trials.parquet")
    assert table["status"].tolist() == ["failed", "ok"]


def test_what_is_wrong_is_said_before_anything_starts(place: Path, runs: Path) -> None:
    for words in (
        ("grid.objective.lamb=[1.0]",),
        ("grid.chain.prefix.selector.tau=[0.5,0.6]",),
        ("train_images=99",),
    ):
        with pytest.raises(ConfigError):
            sweep(config(place, runs, *words))
    with pytest.raises(FileNotFoundError, match="make it with `s3pot data composite`"):
        sweep(config(place, runs, "data=/nowhere"))
    assert not (runs / "sweep").exists()


def test_the_plan_names_cells_stores_and_time(place: Path, runs: Path, tmp_path: Path, without_ray: list[str]) -> None:
    words = ("grid.chain.prefix.feature_enhancement=[false,true]", "seeds=[0]")
    settings = replace(config(place, runs, *words), stores=tmp_path / "stores")
    lines = plan_sweep(settings)
    assert lines[0] == "2 cells, 2 trials, on chain.prefix.feature_enhancement"
    assert any("feature_enhancement=true: seeds 0" in line for line in lines)
    assert len([line for line in lines if "2 images to encode" in line]) == 1
    assert len([line for line in lines if "get other prompts, from the tokens of" in line]) == 2
    assert lines[-1] == "time: known when a trained cell has its stores"
    assert any("cannot be run yet" in line for line in plan_sweep(replace(settings, data=tmp_path)))
    sweep(settings)
    lines = plan_sweep(settings)
    assert len([line for line in lines if line.endswith(": there")]) == 4
    assert lines[-1].startswith("time: about")


def test_stores_are_shared_and_nothing_is_encoded_twice(
    place: Path, runs: Path, tmp_path: Path, without_ray: list[str]
) -> None:
    settings = replace(
        config(place, runs, "grid.chain.prefix.selector.kind=[greedy,otsu]", "seeds=[0]"), stores=tmp_path
    )
    sweep(settings)
    assert sorted(name.partition("-")[0] for name in without_ray) == ["dev", "head"]
    other = config(place, runs, "grid.chain.prefix.feature_enhancement=[true]", "seeds=[0]", "grid.reweighter=[on]")
    sweep(replace(other, stores=tmp_path))
    assert len(without_ray) == 2, "another sweep takes the tokens that are there"
    stores = [PromptStore(path.parent) for path in tmp_path.glob("*/store.json")]
    assert len(stores) == 6
    assert len({store.description["identity"] for store in stores}) == 3


@pytest.mark.chaos
def test_a_sweep_that_was_killed_goes_on_without_tunes_files(
    place: Path, runs: Path, repository: Path, ray_cluster: dict[str, object]
) -> None:
    words = [f"data={place / 'data'}", f"stores={place / 'stores'}", f"runs={runs}", "title=Test", "name=killed"]
    words += [*SETTING, "grid.objective.lam=[0.1,0.2,0.3]", "base.training.epochs=8", "concurrent=1"]
    environment = os.environ | {"RAY_ADDRESS": str(ray_cluster["address"])}
    command = [sys.executable, "-m", "ray_jobs.cli", "sweep", *words]
    folder = runs / "sweep" / "killed"
    with subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.PIPE) as job:
        deadline = time.monotonic() + 120
        while not list(folder.rglob(RESULT)):
            assert job.poll() is None, (job.stderr.read() if job.stderr else b"").decode()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        job.send_signal(signal.SIGKILL)
    time.sleep(1.0)
    done = {path: path.stat().st_mtime_ns for path in folder.rglob(RESULT)}
    assert 1 <= len(done) < 6
    shutil.rmtree(folder / "tune")
    sweep(resolve(SweepConfig, words, {}))
    assert len(list(folder.rglob(RESULT))) == 6
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert (pd.read_parquet(folder / "trials.parquet")["status"] == "ok").all()
