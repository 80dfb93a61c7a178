"""Fixtures and environment of all tests."""

import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before Ray is imported anywhere, and inherited by its workers: no usage reports, no csv/json/tensorboard files per
# trial, idle OpenMP threads that sleep, and never somebody's real cluster. Ray listens on every network interface, so
# without a token anyone near could run code here; our own spares the token file Ray would put into the home folder.
os.environ.pop("RAY_ADDRESS", None)
for _name, _value in {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "S3POT_CACHE": tempfile.mkdtemp(prefix="s3pot-tests-"),
}.items():
    os.environ.setdefault(_name, _value)

# Every annotated shape and dtype of the library is checked while the tests run. The hook works on import only.
assert not any(name.partition(".")[0] == "s3pot" for name in sys.modules), "s3pot was imported before the shape checks"
from jaxtyping import install_import_hook

install_import_hook("s3pot", "beartype.beartype")

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # the tensors of the tests are tiny; threads cost more than they give, and CI has two cores

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the research-only data, which lies outside the repository; without it the test is skipped."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """Folder of the facts about released networks [shared/parity/README.md]; without it the test is skipped."""
    return _shared("parity")


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("S3POT_SHARED", REPOSITORY.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing; set S3POT_SHARED to the folder that holds {name}/")
    return folder


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """An empty bucket of a local S3 server: a URI with a place for the path, `s3_bucket.format(path)`."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]'")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="faces")
    # Workers were started before: they find the keys in the URI, not in their environment.
    yield f"s3://testing:testing@faces/{{}}?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for each test."""
    return np.random.default_rng(20240521)


@pytest.fixture(scope="session")
def random_weight_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded models, random weights of a fixed seed; use `random_weights`."""
    from tests.stand_ins import write_random_weights

    return write_random_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def random_weights(random_weight_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The embedded models are those with random weights; yields their folder. Processes started later see them too."""
    monkeypatch.setenv("S3POT_WEIGHTS", str(random_weight_files))
    return random_weight_files


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[dict[str, object]]:
    """A local Ray cluster of two CPUs without dashboard; yields what `ray.init` knows about it."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=256 * 1024**2,
        # Workers start elsewhere; they import the checked-out code, and functions of test modules by their name.
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY)}},
    )
    yield dict(context.address_info)
    ray.shutdown()
