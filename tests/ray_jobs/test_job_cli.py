"""The command line of jobs: configuration errors before any work, dry runs, exit codes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from ray_jobs.cli import app
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.job_cli import PartlyFailed, job_command, key_help, resolve, with_absolute_paths
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.head.training import TrainingConfig
from s3pot.store.prompt_store import PromptStore
from tests.ray_jobs.mlflow_stand_ins import stored_runs

REPOSITORY = Path(__file__).resolve().parents[2]
RUNS: list["JobConfig"] = []


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """A job.

    Attributes:
        store: where it reads.
        chain: models and frozen stages.
        training: how it learns.
    """

    store: Path
    chain: ChainConfig = field(default_factory=ChainConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def _run(config: JobConfig) -> None:
    if config.store == Path("bad"):
        raise PartlyFailed("1 of 2 images failed")
    if config.store == Path("missing"):
        raise FileNotFoundError("missing: no such store")
    if config.store == Path("ctrl-c"):
        os.kill(os.getpid(), signal.SIGINT)
    if config.store == Path("train-ctrl-c"):
        sys.exit(0)  # what Ray Train does on Ctrl-C
    if config.store == Path("terminated"):
        os.kill(os.getpid(), signal.SIGTERM)
    RUNS.append(config)


@pytest.fixture
def job() -> typer.Typer:
    RUNS.clear()
    made = typer.Typer()
    made.command()(job_command(JobConfig, _run, {"training.epochs": 2}, "Do it."))
    return made


def test_yaml_smoke_and_overrides_in_this_order(job: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("store: here\ntraining:\n  epochs: 7\n  batch_size: 5\n")
    CliRunner().invoke(job, [str(tmp_path / "job.yaml")], catch_exceptions=False)
    CliRunner().invoke(job, [str(tmp_path / "job.yaml"), "--smoke"], catch_exceptions=False)
    CliRunner().invoke(job, [str(tmp_path / "job.yaml"), "--smoke", "training.epochs=3"], catch_exceptions=False)
    assert [config.training.epochs for config in RUNS] == [7, 2, 3]
    assert {config.training.batch_size for config in RUNS} == {5}


def test_dry_run_prints_and_does_nothing(job: typer.Typer) -> None:
    result = CliRunner().invoke(job, ["store=here", "--dry-run"])
    assert result.exit_code == 0
    assert "learning_rate: 0.0001" in result.stdout
    assert RUNS == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["store=x", "training.epoch=3"], "did you mean 'epochs'"),
        (["store=x", "training.epochs=many"], "training.epochs"),
        (["store=x", "training.epochs=0"], "training.epochs must be at least 1"),
        ([], "store"),
        (["nowhere.yaml", "store=x"], "nowhere.yaml"),
    ],
)
def test_configuration_errors_are_sentences_with_exit_code_2(
    job: typer.Typer, arguments: list[str], words: str
) -> None:
    result = CliRunner().invoke(job, arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output
    assert RUNS == []


@pytest.mark.parametrize(
    ("store", "code", "words"),
    [
        ("bad", 1, "failed in part"),
        ("missing", 2, "no such store"),
        ("ctrl-c", 130, "interrupted: what is finished is kept"),
        ("train-ctrl-c", 130, "interrupted: what is finished is kept"),
        ("terminated", 143, "terminated: what is finished is kept"),
    ],
)
def test_exit_codes_of_work(job: typer.Typer, store: str, code: int, words: str) -> None:
    # Where the tests run in the background of a shell, Ctrl-C is ignored.
    shell = signal.signal(signal.SIGINT, signal.default_int_handler)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = CliRunner().invoke(job, [f"store={store}"])
    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output
    assert RUNS == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    signal.signal(signal.SIGINT, shell)


def test_relative_paths_become_absolute_at_every_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_absolute_paths(JobConfig(store=Path("photos"))).store == tmp_path / "photos"
    assert with_absolute_paths(JobConfig(store=Path("~/store"))).store == Path.home() / "store"
    checkpoint = ChainConfig(sam="vit_b", sam_checkpoint=Path("sam.pth"))
    nested = with_absolute_paths(JobConfig(store=Path("a"), chain=checkpoint))
    assert nested.chain.sam_checkpoint == tmp_path / "sam.pth"


@pytest.mark.parametrize(
    "place", ["photos/", "2024", "photos/**/*.jpg", "s3://bucket/in?endpoint_override=here:1&scheme=http", "a/b=c.jpg"]
)
def test_a_place_may_stand_by_itself(place: str) -> None:
    for arguments in ([place, "training.epochs=3"], ["training.epochs=3", place]):
        config = resolve(JobConfig, arguments, {}, "store")
        assert (config.store, config.training.epochs) == (Path(place), 3)


def test_a_place_beside_a_file_and_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("store: there\ntraining:\n  epochs: 7\n")
    config = resolve(JobConfig, [str(tmp_path / "job.yaml"), "photos"], {}, "store")
    assert (config.store, config.training.epochs) == (Path("photos"), 7)
    with pytest.raises(ConfigError, match=r"one store is taken, got 3: .* such as 'photos/\*\.jpg'"):
        resolve(JobConfig, ["photos/a.jpg", "photos/b.jpg", "photos/c.jpg"], {}, "store")
    with pytest.raises(ConfigError, match="photos: cannot be read"):
        resolve(JobConfig, ["photos"], {})  # of a job that knows no such argument it is a YAML file


def test_help_names_every_key() -> None:
    text = key_help(JobConfig)
    assert "training.learning_rate" in text
    assert "where it reads" in text


@pytest.mark.parametrize(
    "verb", ["data composite", "data screen", "encode", "train", "overfit", "sweep", "evaluate", "predict", "report"]
)
def test_every_verb_has_help_with_its_keys(verb: str) -> None:
    result = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert result.exit_code == 0
    assert "Keys:" in result.stdout


def _interrupted(command: list[str], ready: Callable[[], bool], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Start a job, wait until it works, press Ctrl-C: the signal goes to its whole process group, Ray's included."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": ""}
    output = folder / "output.txt"
    with output.open("wb") as stream:
        job = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            # As a terminal has it, even where the tests run in the background of a shell.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        for _ in range(1200):
            if ready():
                break
            assert job.poll() is None, output.read_text()
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGINT)
        code = job.wait(timeout=60)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
    return subprocess.CompletedProcess(command, code, output.read_text())


@pytest.mark.chaos
def test_ctrl_c_ends_encode_with_a_sentence_and_the_store_goes_on(
    astronaut_manifest: Path, ray_cluster: dict[str, object], tmp_path: Path
) -> None:
    images = pd.read_parquet(astronaut_manifest)
    paths = [str(astronaut_manifest.parent / path) for path in images["path"]]
    manifest = tmp_path / "images.csv"
    pd.DataFrame([{"id": f"image{number}", "path": paths[number % 5]} for number in range(16)]).to_csv(manifest)
    store, runs = tmp_path / "store", tmp_path / "runs"
    job = [f"input={manifest}", f"store={store}", f"runs={runs}", "batch_size=1", "chain.alignment=none"]
    stopped = _interrupted(
        [str(REPOSITORY / "ray_jobs" / "encode.py"), *job],
        lambda: len(list(store.rglob("*.safetensors"))) >= 2,
        tmp_path,
    )
    assert stopped.returncode == 130, stopped.stdout
    assert stopped.stdout.count("interrupted: what is finished is kept") == 1
    assert "Traceback" not in stopped.stdout
    assert [run.info.status for run in stored_runs(f"sqlite:///{runs / 'mlflow.db'}")] == ["KILLED"]
    encoded = set(PromptStore(store).rows(["status"])["id"])
    assert 2 <= len(encoded) < 16
    encode(resolve(EncodeConfig, job, {}))
    assert sorted(PromptStore(store).rows(["status"])["id"]) == sorted(f"image{number}" for number in range(16))
    assert len([record.image_tokens for record in PromptStore(store).records()]) == 16


@pytest.mark.chaos
def test_ctrl_c_ends_a_training_as_killed_not_as_done(astronaut_store: PromptStore, tmp_path: Path) -> None:
    history = tmp_path / "runs" / "train" / "x" / "history.jsonl"
    job = [f"store={astronaut_store.root}", f"runs={tmp_path / 'runs'}", "name=x", "training.epochs=5000"]
    stopped = _interrupted(
        [str(REPOSITORY / "ray_jobs" / "train.py"), *job],
        lambda: history.is_file() and bool(history.read_text()),
        tmp_path,
    )
    assert stopped.returncode == 130, stopped.stdout
    assert stopped.stdout.count("interrupted: what is finished is kept") == 1
    assert "Traceback" not in stopped.stdout
    assert [run.info.status for run in stored_runs(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")] == ["KILLED"]
    assert not (history.parent / "reweighter.safetensors").exists()
