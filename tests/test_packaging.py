"""What is declared, and what a wheel holds."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import s3pot

# Where the imported name is not that of the distribution.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "prometheus_client": "prometheus-client",
    "segment_anything": "segment-anything",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def test_version_is_stated_once(pyproject: dict) -> None:
    assert pyproject["project"]["version"] == s3pot.__version__


def test_python_versions_agree(pyproject: dict, repository: Path) -> None:
    assert pyproject["project"]["requires-python"] == ">=3.11,<3.12"
    assert pyproject["tool"]["mypy"]["python_version"] == "3.11"
    assert pyproject["tool"]["ruff"]["target-version"] == "py311"
    assert "sys.version_info[:2] != (3, 11)" in (repository / "Makefile").read_text(encoding="utf-8")


def test_every_dependency_says_why_and_from_which_version(pyproject: dict, repository: Path) -> None:
    lines = (repository / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    project = pyproject["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    for requirement in [*project["dependencies"], *extras]:
        if requirement.startswith("s3pot["):
            continue
        [line] = {line.strip() for line in lines if line.strip().startswith(f'"{requirement}",')}
        assert re.search(r'",  # \w.{10,}', line), f"{requirement}: why is it there?"
        assert re.search(r">=\d", requirement), f"{requirement}: from which version on?"


def test_every_import_is_a_declared_dependency(pyproject: dict, repository: Path) -> None:
    project = pyproject["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
    ours = {"s3pot", "ray_jobs", "analysis"}
    missing = set()
    for path in [p for package in ours for p in (repository / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for top in {name.partition(".")[0] for name in names} - ours - sys.stdlib_module_names:
                if DISTRIBUTIONS.get(top, top) not in declared:
                    missing.add(f"{path.relative_to(repository)} imports {top}")
    assert sorted(missing) == []


def test_licence_is_apache(repository: Path, pyproject: dict) -> None:
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert pyproject["project"]["license"].startswith("Apache-2.0")


def test_ray_uploads_the_weights_but_not_the_environment(repository: Path) -> None:
    import pathspec

    ignored = pathspec.GitIgnoreSpec.from_lines(
        line
        for name in (".gitignore", ".rayignore")
        for line in (repository / name).read_text(encoding="utf-8").splitlines()
    )
    travels = [
        "s3pot/weights/nano.safetensors",
        "s3pot/weights/WEIGHTS_LICENSE",
        "s3pot/data/folds.py",
        "ray_jobs/train.py",
        "experiments/LOG.md",
        "experiments/train.yaml",
        "analysis/templates/report.html",
    ]
    stays = [".venv/bin/python", ".git/config", "runs/a/config.yaml", "a.log", "mlflow.db", "tests/test_images.py"]
    assert [path for path in travels if ignored.match_file(path)] == []
    assert [path for path in stays if not ignored.match_file(path)] == []


def test_make_prints_its_targets(repository: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    output = subprocess.run([make], cwd=repository, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "bench"):
        assert f"make {target}" in output


def test_make_refuses_a_wrong_python(repository: Path, tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(repository / name, tmp_path)
    old = tmp_path / "old-python"
    # Answers as Python 3.9 would, so that the test needs no second Python.
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo "Python 3.9.1"; exit 0; }\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    for python, message in [(str(old), "is Python 3.9.1"), ("no-such-python", "does not run")]:
        result = subprocess.run([make, "test", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode != 0
        assert "S3POT needs Python 3.11" in result.stderr
        assert message in result.stderr
        assert not (tmp_path / ".venv").exists()


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that no build/ is left here; without isolation, hence without network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    caches = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for entry in [
        *repository.glob("*.toml"),
        *repository.glob("*.md"),
        repository / "LICENSE",
        repository / "Makefile",
    ]:
        shutil.copy(entry, source)
    for folder in ("s3pot", "ray_jobs", "analysis", "tests", "benchmarks", "experiments"):
        if (repository / folder).is_dir():
            shutil.copytree(repository / folder, source / folder, ignore=caches)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    [built] = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(wheel: Path, repository: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name == f"s3pot-{s3pot.__version__}-py3-none-any.whl"
    assert {name.partition("/")[0] for name in held if ".dist-info" not in name} <= {"s3pot", "ray_jobs", "analysis"}
    packages = ("s3pot", "ray_jobs", "analysis")
    patterns = [f"{p}/**/*.py" for p in packages] + [
        "s3pot/py.typed",
        "s3pot/weights/*.safetensors",
        "s3pot/weights/*.md",
    ]
    patterns += ["s3pot/weights/WEIGHTS_LICENSE", "analysis/templates/*", "ray_jobs/serve_page/*"]
    expected = {p.relative_to(repository).as_posix() for pattern in patterns for p in repository.glob(pattern)}
    assert held >= expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    if any(name.endswith(".safetensors") for name in held):
        assert "s3pot/weights/WEIGHTS_LICENSE" in held, "weights must not travel without their terms"


@pytest.mark.slow
def test_installed_wheel_works_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # The dependencies of this environment without its editable install: that needs a .pth file, which PYTHONPATH skips.
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    where = run(str(python), "-c", "import s3pot, s3pot.config, s3pot.images; print(s3pot.__file__, s3pot.__version__)")
    assert where.startswith(str(tmp_path / "venv"))
    assert where.split()[1] == s3pot.__version__
    assert "encode" in run(str(tmp_path / "venv" / "bin" / "s3pot"), "--help")
