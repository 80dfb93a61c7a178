"""The shape of the tree: who may import whom, names, sizes, and where tests lie."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("s3pot", "ray_jobs", "analysis")
SOURCES = sorted(p.relative_to(REPOSITORY) for package in PACKAGES for p in (REPOSITORY / package).rglob("*.py"))
TESTS = sorted(p.relative_to(REPOSITORY) for p in (REPOSITORY / "tests").rglob("test_*.py"))
EVERY_MODULE = sorted(
    p.relative_to(REPOSITORY)
    for folder in (*PACKAGES, "tests", "benchmarks", "experiments")
    for p in (REPOSITORY / folder).rglob("*.py")
)

# What a package must not import, each with everything below it.
FORBIDDEN = {
    "s3pot": ("ray", "mlflow", "argparse", "typer", "click", "ray_jobs", "analysis"),
    "ray_jobs": ("tests",),
    "analysis": ("torch.optim", "ray.train", "ray.tune", "ray_jobs", "s3pot.head.training", "s3pot.pretrain"),
}
# A baseline that was shown the truth must not reach the chain, by whatever way: these packages alone may know it.
BASELINES = "s3pot.baselines"
KNOW_BASELINES = ("s3pot.baselines", "s3pot.pretrain")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST_MODULE = 400

# Tests of the repository as a whole, which mirror no module.
CROSS_CUTTING = {
    "tests/test_layers.py",
    "tests/test_packaging.py",
    "tests/test_experiments.py",
    "tests/test_floors.py",
    "tests/test_official_scale.py",
    "tests/test_deploy.py",
    "tests/test_image.py",
    "tests/ray_jobs/test_job_submit.py",
    "tests/store/test_store_document.py",
    "tests/ray_jobs/test_encode_faults.py",
}
# Folders of tests whose path starts at the root of the repository; all others are tests of s3pot/.
ROOT_FOLDERS = ("ray_jobs", "analysis", "benchmarks")


def imported_names(source: str, package: str = "") -> set[str]:
    """Return the dotted names that a module imports, `from a import b` as `a.b`; relative ones start from `package`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            names.update(f"{origin}.{alias.name}" for alias in node.names)
    return names


def forbidden_imports(source: str, package: str) -> list[str]:
    return sorted(
        name
        for name in imported_names(source, package)
        for banned in FORBIDDEN[package.partition(".")[0]]
        if f"{name}.".startswith(f"{banned}.")
    )


def imports_baselines(source: str, package: str) -> bool:
    """Say whether a module of s3pot imports a baseline without being one or its training."""
    allowed = any(f"{package}.".startswith(f"{place}.") for place in KNOW_BASELINES)
    found = any(f"{name}.".startswith(f"{BASELINES}.") for name in imported_names(source, package))
    return found and not allowed


def mirrored_module(test: Path) -> Path:
    """tests/matching/test_greedy.py -> s3pot/matching/greedy.py; tests/ray_jobs/test_train.py -> ray_jobs/train.py."""
    inside = test.relative_to("tests")
    module = inside.with_name(inside.name.removeprefix("test_"))
    return module if module.parts[0] in ROOT_FOLDERS else Path("s3pot") / module


@pytest.mark.parametrize("module", SOURCES, ids=str)
def test_imports_point_one_way(module: Path) -> None:
    source = (REPOSITORY / module).read_text(encoding="utf-8")
    assert forbidden_imports(source, ".".join(module.parent.parts)) == []


@pytest.mark.parametrize("module", [path for path in SOURCES if path.parts[0] == "s3pot"], ids=str)
def test_no_part_of_the_chain_knows_a_baseline(module: Path) -> None:
    source = (REPOSITORY / module).read_text(encoding="utf-8")
    assert not imports_baselines(source, ".".join(module.parent.parts))


@pytest.mark.parametrize("module", EVERY_MODULE, ids=str)
def test_module_is_named_after_a_concept_and_short_enough(module: Path) -> None:
    assert VAGUE_NAMES.isdisjoint([*module.parent.parts, module.stem])
    lines = len((REPOSITORY / module).read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_MODULE, f"{module} has {lines} lines, the ceiling is {LONGEST_MODULE}: split it by concept"


@pytest.mark.parametrize("test", [t for t in TESTS if t.as_posix() not in CROSS_CUTTING], ids=str)
def test_tests_mirror_the_tree(test: Path) -> None:
    module = mirrored_module(test)
    assert (REPOSITORY / module).is_file(), (
        f"{test} should test {module}, which does not exist; a test of no single module is listed in CROSS_CUTTING"
    )


def test_cross_cutting_tests_exist() -> None:
    assert {t.as_posix() for t in TESTS} >= CROSS_CUTTING


def test_packages_have_an_init() -> None:
    folders = {p.parent for p in SOURCES}
    missing = sorted(str(f) for f in folders if not (REPOSITORY / f / "__init__.py").is_file())
    assert missing == [], "a folder without __init__.py is left out of the wheel"


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("import ray", "s3pot", ["ray"]),
        ("def f():\n    from ray.data import Dataset", "s3pot.sam", ["ray.data.Dataset"]),
        ("import raylib, mlflow_tools", "s3pot", []),
        ("from .. import ray_jobs", "s3pot.sam", []),  # s3pot.ray_jobs: a name of its own
        ("from torch import optim", "analysis", ["torch.optim"]),
        ("import torch", "analysis", []),
        ("from s3pot.head import training", "analysis", ["s3pot.head.training"]),
    ],
)
def test_the_import_check_sees(source: str, package: str, found: list[str]) -> None:
    assert forbidden_imports(source, package) == found


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("from s3pot.baselines.supervised import SupervisedSegmenter", "s3pot", True),
        ("from s3pot import baselines", "s3pot.sam", True),
        ("def f():\n    import s3pot.baselines.supervised", "s3pot.pretraining", True),
        ("from .baselines import supervised", "s3pot", True),
        ("from s3pot.baselines.supervised import SupervisedSegmenter", "s3pot.pretrain", False),
        ("from s3pot.baselines_table import rows", "s3pot", False),
    ],
)
def test_the_baseline_check_sees(source: str, package: str, found: bool) -> None:
    assert imports_baselines(source, package) is found


def test_mirrored_module() -> None:
    assert mirrored_module(Path("tests/test_config.py")) == Path("s3pot/config.py")
    assert mirrored_module(Path("tests/matching/test_greedy.py")) == Path("s3pot/matching/greedy.py")
    assert mirrored_module(Path("tests/ray_jobs/test_train.py")) == Path("ray_jobs/train.py")
