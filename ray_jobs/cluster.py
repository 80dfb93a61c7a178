"""Connecting to Ray: a running cluster when there is one, otherwise a local one for the time of the job."""

import logging
import os

import ray

from s3pot.embedded import LICENCE_SHOWN, show_licence

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # No result files per trial: our own tables hold the results.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The Train controller polls at this pace; the default of 2 s would be most of a short epoch.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Idle OpenMP threads must not spin while other workers compute on the same cores.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def connect() -> None:
    """Connect to `$RAY_ADDRESS` (set under `ray job submit`), or start a local cluster without a dashboard."""
    if ray.is_initialized():
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    show_licence()
    os.environ[LICENCE_SHOWN] = "1"
    # What workers print stays in Ray's log files: the jobs report progress themselves, and Ray's processes are chatty.
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING, log_to_driver=False)
    else:
        # "local": without it Ray joins whatever cluster happens to run on this machine, somebody else's too.
        ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def cpus_of_largest_node() -> float:
    """Return how many CPUs the largest node has: no process can reserve more."""
    return max(float(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"])


def total(resource: str) -> float:
    """Return how much of a resource ("CPU", "GPU") the cluster has."""
    return float(ray.cluster_resources().get(resource, 0.0))
