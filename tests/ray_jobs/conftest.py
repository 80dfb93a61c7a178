"""A small store that the job tests share: composites of the astronaut, encoded once by the real job."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ray_jobs.encode import EncodeConfig, encode
from s3pot.chain import ChainConfig
from s3pot.composite.astronaut import astronaut_composites, astronaut_crops
from s3pot.composite.rendering import write_composites
from s3pot.store.prompt_store import PromptStore


@pytest.fixture(scope="session")
def astronaut_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four composites and a clean crop of the astronaut with exact truth."""
    out = tmp_path_factory.mktemp("astronaut")
    write_composites(astronaut_composites(astronaut_crops(5), held_out=True, clean=1), out)
    return out / "manifest.parquet"


@pytest.fixture(scope="session")
def astronaut_store(
    astronaut_manifest: Path, ray_cluster: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> PromptStore:
    """The store that `encode` makes of them."""
    folder = tmp_path_factory.mktemp("encoded")
    chain = ChainConfig(alignment="none")
    return encode(EncodeConfig(input=astronaut_manifest, store=folder / "store", chain=chain, runs=folder / "runs"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs, to be copied: making the tables takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
