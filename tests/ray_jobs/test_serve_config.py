"""What may be asked of `s3pot serve`."""

from pathlib import Path

import pytest

from ray_jobs.serve_config import ServeConfig
from s3pot.chain import ChainConfig


@pytest.mark.parametrize(
    ("host", "loopback", "url"),
    [
        ("127.0.0.1", True, "http://127.0.0.1:8000/"),
        ("localhost", True, "http://localhost:8000/"),
        ("::1", True, "http://[::1]:8000/"),
        ("0.0.0.0", False, "http://0.0.0.0:8000/"),
        ("192.168.1.5", False, "http://192.168.1.5:8000/"),
        ("faces.example.org", False, "http://faces.example.org:8000/"),
    ],
)
def test_who_reaches_it(host: str, loopback: bool, url: str) -> None:
    config = ServeConfig(host=host)
    assert (config.loopback, config.url) == (loopback, url)


def test_by_default_only_this_machine_does() -> None:
    assert ServeConfig().loopback


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"port": 0}, "port"),
        ({"port": 12_000}, "10002-19999"),
        ({"port": 70_000}, "65536"),
        ({"replicas": 0}, "replicas"),
        ({"batch_size": 0}, "batch_size"),
        ({"cpus_per_replica": 0}, "cpus_per_replica"),
        ({"gpus_per_replica": -1}, "gpus_per_replica"),
        ({"chain": ChainConfig(alignment="landmarks", landmarks=Path("faces.csv"))}, "names"),
        ({"chain": ChainConfig(generator="precomputed", references=Path("refs"))}, "names"),
        ({"chain": ChainConfig(sam="vit_b")}, "head"),
    ],
)
def test_wrong_configuration(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServeConfig(**values)
