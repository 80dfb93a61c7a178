"""Run folders: identity and what they record."""

import json
from dataclasses import dataclass
from pathlib import Path

from ray_jobs.run_folder import identity, open_run
from s3pot.config import load_yaml


@dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration."""

    lam: float = 0.5
    name: str | None = None
    runs: Path = Path("runs")


def test_identity_is_about_work_not_about_places() -> None:
    same = identity(Config(), "store")
    assert same == identity(Config(name="x", runs=Path("elsewhere")), "store")
    assert same != identity(Config(lam=0.6), "store")
    assert same != identity(Config(), "another store")


def test_a_run_records_configuration_and_environment(tmp_path: Path) -> None:
    folder = open_run(tmp_path, "train", "x", Config())
    assert load_yaml(folder / "config.yaml")["lam"] == 0.5
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
