"""The four verbs below `s3pot data`, and the commands that their help and their document show."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs import data_composite, data_export, data_import, data_split
from ray_jobs.data import app

REPOSITORY = Path(__file__).resolve().parents[2]
TEXTS = [
    *(module.__doc__ or "" for module in (data_import, data_split, data_composite, data_export)),
    (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8"),
]
SHOWN = [line for text in TEXTS for line in re.findall(r"^ +s3pot (data .*)$", text, re.MULTILINE)]


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_that_is_shown_is_accepted(line: str) -> None:
    result = CliRunner().invoke(app, [*shlex.split(line, comments=True)[1:], "--dry-run"])
    assert result.exit_code == 0, result.output


def test_commands_are_shown() -> None:
    assert len(SHOWN) >= 15


@pytest.mark.parametrize("verb", ["import", "split", "composite", "export"])
def test_every_verb_teaches_its_keys(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert f"s3pot data {verb}" in result.output, "an example"
    assert "Keys:" in result.output
    assert "  out   path, default required" in result.output


def test_wrong_keys_are_exit_code_2_and_name_the_nearest() -> None:
    result = CliRunner().invoke(app, ["import", "format=labelme", "out=o", "annotation=x"])
    assert result.exit_code == 2
    assert "did you mean 'annotations'?" in result.output


def test_a_dry_run_prints_the_plan() -> None:
    words = ["import", "format=folder", "images=nowhere", "out=o", "--dry-run"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "format: folder" in result.output
    assert "nowhere: no such folder" in result.output
