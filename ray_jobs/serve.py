"""Serve masks over HTTP, with a page to try it on: a photograph in, what covers its faces out (Ray Serve).

    python ray_jobs/serve.py                       http://127.0.0.1:8000/ on this machine alone
    curl -F image=@photo.jpg http://127.0.0.1:8000/segment
    curl -H 'Accept: image/png' -F image=@photo.jpg http://127.0.0.1:8000/segment > mask.png

Nothing that is sent is written to a disk or a log. There is no authentication: another host than loopback has to be
asked for (host=0.0.0.0), and needs a proxy in front that asks people who they are. Ctrl-C ends it.
"""

import errno
import importlib.util
import logging
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from ray_jobs import cluster
from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths
from ray_jobs.serve_config import ServeConfig
from s3pot.chain import model_files
from s3pot.config import ConfigError
from s3pot.embedded import weights_path
from s3pot.head.head_file import check_prefix, read_reweighter_config

_log = logging.getLogger("s3pot.serve")
_QUIET = {"enable_access_log": False, "log_level": "WARNING"}
# On a busy machine a proxy takes more than the default of three times 5 s to start; the controller would give it up.
_CONTROLLER = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
_NEEDS = ("starlette", "uvicorn", "prometheus_client", "watchfiles")


def serve(config: ServeConfig) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: if packages are missing or the port is taken.
        WeightsError: if weights are missing, or the head is for another chain.
    """
    config = with_absolute_paths(config)
    _check_packages()
    _check_weights(config)
    _check_port(config)
    if not config.loopback:
        _log.warning(
            "WARNING: at host=%s whoever reaches this machine can use the service, and faces are biometric data. There "
            "is no authentication and no encryption: put a proxy with both in front.",
            config.host,
        )
    cluster.connect()
    cluster.check_gpus(config.replicas * config.gpus_per_replica)
    try:
        start(config)
        _log.info("serving at %s (Ctrl-C ends it)", config.url)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        # SIGTERM comes as this, too [job_cli]. There is nothing to go on with, so this is the ordinary end.
        _log.info("stopping")
    finally:
        stop()
        ray.shutdown()


def start(config: ServeConfig) -> None:
    """Start Serve on the connected cluster; returns when the models are loaded and were tried."""
    from ray import serve as ray_serve
    from ray.serve.config import HTTPOptions

    from ray_jobs.serve_app import APPLICATION, application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    # The ingress has limits of its own, which answer in sentences; this one is for an ingress that is gone.
    patience = config.limits.read_seconds + config.limits.answer_seconds + 10
    ray_serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=config.host, port=config.port, request_timeout_s=patience),
        logging_config=_QUIET,
        controller_options={"runtime_env": {"env_vars": _CONTROLLER}},
    )
    ray_serve.run(application(config), name=APPLICATION, route_prefix="/", logging_config=_QUIET)


def stop() -> None:
    """End the application, as far as it was started; others on the same cluster go on."""
    from ray import serve as ray_serve
    from ray.serve.exceptions import RayServeException

    from ray_jobs.serve_app import APPLICATION

    with suppress(RayServeException):  # Serve is not running
        ray_serve.delete(APPLICATION)


def _check_packages() -> None:
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError("s3pot serve", [f"needs {', '.join(missing)}: pip install 's3pot[serve]'"])


def _check_weights(config: ServeConfig) -> None:
    """Miss weights here rather than in a replica, which would be started again and again."""
    model_files(config.chain)
    if config.chain.alignment == "detect":
        weights_path("locator")
    head: Path = config.head or weights_path("reweighter")
    read_reweighter_config(head)
    check_prefix(head, config.chain)


def _check_port(config: ServeConfig) -> None:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = f"port={config.port} is taken: choose another one"
        else:
            problem = f"host={config.host} port={config.port} cannot be listened at: {error.strerror or error}"
        raise ConfigError("this machine", [problem]) from error


SMOKE: dict[str, Any] = {"batch_size": 2}
command = job_command(ServeConfig, serve, SMOKE, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
