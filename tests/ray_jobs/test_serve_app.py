"""The application as a file of Serve names it."""

import pytest

from ray_jobs.serve_app import application_of
from s3pot.config import ConfigError


def test_arguments_of_a_file_reach_the_deployments() -> None:
    application = application_of({"replicas": 3, "gpus_per_replica": 0.5, "batch_size": 4, "limits": {"waiting": 7}})
    ingress = application._bound_deployment
    models = ingress.init_args[0]._bound_deployment
    assert ingress.num_replicas == 1
    assert models.num_replicas == 3
    assert models.ray_actor_options["num_gpus"] == 0.5
    assert (models.max_ongoing_requests, models.max_queued_requests) == (8, 7)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'replicas'"):
        application_of({"replica": 3})
