"""What the jobs ask of a cluster."""

import os

import ray

from ray_jobs import cluster
from s3pot.embedded import LICENCE_SHOWN


def test_resources_of_a_local_cluster(ray_cluster: dict[str, object]) -> None:
    assert cluster.total("CPU") == cluster.cpus_of_largest_node() == 2.0
    assert cluster.total("no such resource") == 0.0


def test_connecting_twice_keeps_the_cluster(ray_cluster: dict[str, object]) -> None:
    before = ray.get_runtime_context().get_job_id()
    cluster.connect()
    assert ray.get_runtime_context().get_job_id() == before
    assert LICENCE_SHOWN not in os.environ, "an existing cluster is left as it is"
