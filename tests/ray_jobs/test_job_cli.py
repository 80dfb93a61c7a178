"""The command line of jobs: configuration errors before any work, dry runs, exit codes."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ray_jobs.cli import app
from ray_jobs.encode import EncodeConfig
from ray_jobs.job_cli import PartlyFailed, job_command, key_help, with_absolute_paths
from s3pot.chain import ChainConfig
from s3pot.head.training import TrainingConfig

RUNS: list["JobConfig"] = []


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """A job.

    Attributes:
        store: where it reads.
        training: how it learns.
    """

    store: Path
    training: TrainingConfig = field(default_factory=TrainingConfig)


def _run(config: JobConfig) -> None:
    if config.store == Path("bad"):
        raise PartlyFailed("1 of 2 images failed")
    if config.store == Path("missing"):
        raise FileNotFoundError("missing: no such store")
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


@pytest.mark.parametrize(("store", "code", "words"), [("bad", 1, "failed in part"), ("missing", 2, "no such store")])
def test_exit_codes_of_work(job: typer.Typer, store: str, code: int, words: str) -> None:
    result = CliRunner().invoke(job, [f"store={store}"])
    assert result.exit_code == code
    assert words in result.output


def test_relative_paths_become_absolute_at_every_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(EncodeConfig(input=Path("photos"), store=Path("~/store")))
    assert config.input == tmp_path / "photos"
    assert config.store == Path.home() / "store"
    checkpoint = ChainConfig(sam="vit_b", sam_checkpoint=Path("sam.pth"))
    nested = with_absolute_paths(EncodeConfig(input=Path("a"), store=Path("b"), chain=checkpoint))
    assert nested.chain.sam_checkpoint == tmp_path / "sam.pth"


def test_help_names_every_key() -> None:
    text = key_help(JobConfig)
    assert "training.learning_rate" in text
    assert "where it reads" in text


@pytest.mark.parametrize("verb", ["data", "encode", "train", "overfit", "evaluate", "report"])
def test_every_verb_has_help_with_its_keys(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Keys:" in result.stdout
