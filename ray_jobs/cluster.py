"""Connecting to Ray: a running cluster when there is one, otherwise a local one for the time of the job."""

import logging
import os
import signal
import threading

import ray

from s3pot.config import ConfigError
from s3pot.embedded import LICENCE_SHOWN, show_licence

_log = logging.getLogger("s3pot.cluster")
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # No result files per trial: our own tables hold the results.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C ends the job; Tune would end the sweep only, and go on as if it were complete.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The Train controller polls at this pace; the default of 2 s would be most of a short epoch.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # On a busy machine workers take more than the default of 60 s to import PyTorch; Train would begin again, for ever.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    # Idle OpenMP threads must not spin while other workers compute on the same cores.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def connect() -> None:
    """Connect to `$RAY_ADDRESS` (set under `ray job submit`), or start a local cluster without a dashboard.

    The address of the dashboard is logged when there is one.
    """
    if ray.is_initialized():
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    show_licence()
    os.environ[LICENCE_SHOWN] = "1"
    terminate = signal.getsignal(signal.SIGTERM)
    # What workers print stays in Ray's log files: the jobs report progress themselves, and Ray's processes are chatty.
    if os.environ.get("RAY_ADDRESS"):
        context = ray.init(logging_level=logging.WARNING, log_to_driver=False)
        if context.dashboard_url:
            _log.info("Ray dashboard: http://%s", context.dashboard_url)
    else:
        # "local": without it Ray joins whatever cluster happens to run on this machine, somebody else's too.
        ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    if callable(terminate) and threading.current_thread() is threading.main_thread():
        # Ray puts its own in the place of the job's.
        signal.signal(signal.SIGTERM, terminate)


def cpus_of_largest_node() -> float:
    """Return how many CPUs the largest node has: no process can reserve more."""
    return max(float(node["Resources"].get("CPU", 0.0)) for node in ray.nodes() if node["Alive"])


def check_gpus(needed: float) -> None:
    """Refuse what a local cluster would wait for in vain; a remote one may grow: say what is waited for.

    Args:
        needed: GPUs without which the job cannot begin.

    Raises:
        ConfigError: if this machine has fewer.
    """
    there = total("GPU")
    if needed <= there:
        return
    if os.environ.get("RAY_ADDRESS"):
        _log.warning("waiting for %g GPUs: the cluster has %g now", needed, there)
        return
    problem = (
        f"{needed:g} GPUs are asked for and Ray sees {there:g}: ask for fewer, or submit to a cluster (RAY_ADDRESS)"
    )
    raise ConfigError("this machine", [problem])


def total(resource: str) -> float:
    """Return how much of a resource ("CPU", "GPU") the cluster has."""
    return float(ray.cluster_resources().get(resource, 0.0))
