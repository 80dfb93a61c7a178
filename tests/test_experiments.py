"""Every experiment file and every command of the README is one that the command line accepts."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_jobs.cli import app

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENTS = sorted((REPOSITORY / "experiments").glob("*.yaml"))


def _commands(text: str) -> list[list[str]]:
    found = [shlex.split(line, comments=True) for line in re.findall(r"^#?\s*(s3pot .*)$", text, re.MULTILINE)]
    # "s3pot VERB --help" is prose.
    return [words[1:] for words in found if words[1].islower()]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_an_experiment_opens_with_the_command_that_runs_it(path: Path) -> None:
    commands = _commands(path.read_text())
    assert len(commands) == 1, f"{path.name} must open with its command"
    words = [str(REPOSITORY / word) if word.endswith(".yaml") else word for word in commands[0]]
    assert str(path) in words
    result = CliRunner().invoke(app, [*words, "--dry-run"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("words", _commands((REPOSITORY / "README.md").read_text()), ids=" ".join)
def test_a_command_of_the_readme_is_accepted(words: list[str]) -> None:
    words = [str(REPOSITORY / word) if word.endswith(".yaml") else word for word in words]
    # `models` has nothing to plan: its help shows that the verb is there.
    result = CliRunner().invoke(app, [*words, "--help" if words[0] == "models" else "--dry-run"])
    assert result.exit_code == 0, result.output
