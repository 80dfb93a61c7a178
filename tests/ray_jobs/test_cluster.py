"""What the jobs ask of a cluster."""

import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray

from ray_jobs import cluster
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode_stages import Work, run_stages
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.embedded import LICENCE_SHOWN
from s3pot.store.encoding import StoreWriting


def test_resources_of_a_local_cluster(ray_cluster: dict[str, object]) -> None:
    assert cluster.total("CPU") == cluster.cpus_of_largest_node() == 2.0
    assert cluster.total("no such resource") == 0.0


def test_connecting_twice_keeps_the_cluster(ray_cluster: dict[str, object]) -> None:
    before = ray.get_runtime_context().get_job_id()
    cluster.connect()
    assert ray.get_runtime_context().get_job_id() == before
    assert LICENCE_SHOWN not in os.environ, "an existing cluster is left as it is"


@pytest.mark.parametrize("dashboard", ["127.0.0.1:8265", ""])
def test_the_dashboard_of_a_cluster_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, dashboard: str
) -> None:
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        asked.append(options)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ray does
        return SimpleNamespace(dashboard_url=dashboard)

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setenv(LICENCE_SHOWN, "1")
    monkeypatch.setattr(ray, "is_initialized", lambda: bool(asked))
    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, of_the_job := lambda number, frame: None)
    with caplog.at_level(logging.INFO, "s3pot.cluster"):
        cluster.connect()
        cluster.connect()
    assert signal.signal(signal.SIGTERM, before) is of_the_job
    said = [record.getMessage() for record in caplog.records if record.name == "s3pot.cluster"]
    assert said == (["Ray dashboard: http://127.0.0.1:8265"] if dashboard else [])
    assert os.environ["TUNE_DISABLE_SIGINT_HANDLER"] == "1"


class TestGpus:
    def test_a_machine_without_refuses_and_says_what_to_do(
        self, ray_cluster: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with pytest.raises(ConfigError, match=r"0\.5 GPUs are asked for and Ray sees 0: .*RAY_ADDRESS"):
            cluster.check_gpus(0.5)
        cluster.check_gpus(0.0)

    def test_a_cluster_may_grow(
        self, ray_cluster: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
        with caplog.at_level(logging.WARNING, "s3pot.cluster"):
            cluster.check_gpus(2.0)
        assert [record.getMessage() for record in caplog.records] == ["waiting for 2 GPUs: the cluster has 0 now"]

    def test_jobs_ask_before_they_wait(self, ray_cluster: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        items = pa.table({"id": ["a"], "path": ["a.png"]})
        store = Path("never made")
        work = Work(
            chain=ChainConfig(), store=store, writing=StoreWriting(store=store), pool=PoolConfig(gpus_per_actor=0.25)
        )
        with pytest.raises(ConfigError, match=r"0\.25 GPUs"):
            next(run_stages(items, work))
