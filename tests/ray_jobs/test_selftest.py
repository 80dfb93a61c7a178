import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ray_jobs.cli import app
from ray_jobs.selftest import ESTIMATES, findings_table
from s3pot.images import read_image
from s3pot.selftest import Finding


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["models", "selftest", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_embedded_models_pass() -> None:
    result = run()
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + 7
    assert "OUTSIDE" not in result.stdout
    assert ESTIMATES not in result.stdout


def test_machines_get_every_finding(random_weights: Path) -> None:
    result = run("--json")
    assert result.exit_code == 1
    findings = [Finding(**row) for row in json.loads(result.stdout)]
    assert {finding.part for finding in findings if not finding.ok} == {"parser", "generator", "sam"}


def test_the_chain_of_an_experiment_is_tested_and_pictures_are_written(tmp_path: Path) -> None:
    experiment = tmp_path / "mine.yaml"
    experiment.write_text("chain:\n  size: 300\nbatch_size: 1\n")
    assert run(experiment, "--pictures", tmp_path / "looks").exit_code == 0
    written = {path.stem: read_image(path) for path in (tmp_path / "looks").iterdir()}
    assert set(written) == {"clean", "occluded", "parsing", "reference", "sam_nose", "sam_scarf"}
    assert written["clean"].shape == written["reference"].shape == (300, 300, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["experiments/official.yaml"], "79999_iter.pth"),
        (["chain.sam=vit_b"], "sam_vit_b_01ec64.pth"),
        (["sam=vit_b"], "did you mean 'chain.sam'"),
        (["experiments/evaluation.yaml"], "cannot be read"),
    ],
)
def test_what_cannot_be_tested_is_one_sentence(
    arguments: list[str], says: str, random_weights: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\nerror:") + result.stderr.startswith("error:") == 1


def test_a_file_without_a_chain_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("epochs: 3\n")
    result = run(tmp_path / "other.yaml")
    assert result.exit_code == 2
    assert "no `chain:` block" in result.stderr


def test_the_table_says_what_is_an_estimate_and_what_was_not_measured() -> None:
    rest = {"part": "sam", "low": 0.5, "high": 1.0}
    estimated = Finding(measure="a", value=0.25, ok=False, estimated=True, note="look here", **rest)
    skipped = Finding(measure="b", value=None, ok=True, estimated=False, note="not measured", **rest)
    head, first, again, second, *below = findings_table([estimated, estimated, skipped]).splitlines()
    assert head.split() == ["part", "measure", "value", "plausible", "note"]
    assert first.split() == ["sam", "a", "0.250", "0.5", "to", "1*", "OUTSIDE"]
    assert again == first
    assert second.split() == ["sam", "b", "-", "0.5", "to", "1", "-", "not", "measured"]
    assert below == ["", "sam: look here", ESTIMATES]
    assert findings_table([skipped]).count("\n") == 1
