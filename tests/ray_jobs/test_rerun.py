from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs.cli import app
from ray_jobs.run_folder import write_text
from ray_jobs.trial import RESULT, TrialConfig, TrialSettings, fail_trial, run_trial
from s3pot.head.training import TrainingConfig
from s3pot.store.prompt_store import PromptStore


@pytest.fixture
def folder(astronaut_store: PromptStore, tmp_path: Path) -> Path:
    ids = tuple(astronaut_store.rows(["status"])["id"])
    trial = TrialConfig(
        settings=TrialSettings(chain=astronaut_store.chain, training=TrainingConfig(epochs=1)),
        train_store=astronaut_store.root,
        evaluate_store=astronaut_store.root,
        train_images=ids[:2],
        evaluate_images=ids[1:3],
    )
    run_trial(trial, tmp_path / "trial")
    return tmp_path / "trial"


def test_the_number_comes_out_again(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = CliRunner().invoke(app, ["rerun", str(folder)])
    assert result.exit_code == 0, result.output
    assert "difference +0.0e+00" in result.stdout
    assert result.stdout.strip().endswith("the same")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_another_number_is_said_and_exits_with_1(folder: Path) -> None:
    text = (folder / RESULT).read_text()
    [line] = [line for line in text.splitlines() if '"iou_face_mask"' in line]
    write_text(folder / RESULT, text.replace(line, '  "iou_face_mask": 0.123456,'))
    result = CliRunner().invoke(app, ["rerun", str(folder)])
    assert (result.exit_code, "NOT the same" in result.stdout, "recorded 0.123456" in result.stdout) == (1, True, True)


def test_what_cannot_be_repeated_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    missing = CliRunner().invoke(app, ["rerun", str(tmp_path / "nothing")])
    assert (missing.exit_code, "trial.yaml" in missing.stderr) == (2, True)
    fail_trial(folder, "ValueError: bad")
    failed = CliRunner().invoke(app, ["rerun", str(folder)])
    assert (failed.exit_code, "failed: ValueError: bad" in failed.stderr) == (2, True)
    (folder / RESULT).unlink()
    unfinished = CliRunner().invoke(app, ["rerun", str(folder)])
    assert (unfinished.exit_code, "has not ended" in unfinished.stderr) == (2, True)
