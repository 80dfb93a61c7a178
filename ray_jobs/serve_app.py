"""`s3pot serve` as an application of Ray Serve: one ingress, and replicas that hold the models.

A cluster runs it by the name of `application_of`, in a file of `serve deploy` or a KubeRay RayService:

    import_path: ray_jobs.serve_app:application_of
    args: {replicas: 4, gpus_per_replica: 1}
"""

from typing import Any

from ray import serve
from ray.serve import Application

from ray_jobs.serve_config import ServeConfig
from ray_jobs.serve_ingress import Ingress
from ray_jobs.serve_model import ModelReplica
from s3pot.config import parse

APPLICATION = "s3pot"
_INGRESS, _MODELS = "Ingress", "Models"
# Slow clients wait in the ingress, each a coroutine: many more than are ever computed at once.
_MOST_CLIENTS = 2000


def application(config: ServeConfig) -> Application:
    """Put the two deployments together."""
    models = serve.deployment(ModelReplica).options(
        name=_MODELS,
        num_replicas=config.replicas,
        ray_actor_options={"num_cpus": config.cpus_per_replica, "num_gpus": config.gpus_per_replica},
        # One batch is computed while the next is decoded.
        max_ongoing_requests=2 * config.batch_size,
        max_queued_requests=config.limits.waiting,
        graceful_shutdown_timeout_s=5,
        max_constructor_retry_count=1,
    )
    # One process: what is held for decoding again lives in it.
    ingress = serve.deployment(Ingress).options(
        name=_INGRESS,
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_MOST_CLIENTS,
        graceful_shutdown_timeout_s=5,
    )
    return ingress.bind(models.bind(config), config.limits, _MODELS)


def application_of(arguments: dict[str, Any]) -> Application:
    """Put the application together from the `args` of a file of Serve: the keys of `s3pot serve`, nested.

    Host and port are in the hands of Serve there.

    Raises:
        ConfigError: naming every problem.
    """
    return application(parse(ServeConfig, arguments, where="args of the Serve application"))
