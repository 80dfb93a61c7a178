"""Manifests of deploy/ hold against the schemas of those who read them, and docs/cluster.md names what exists."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config
from ray.runtime_env import RuntimeEnv
from ray.serve.schema import ServeDeploySchema
from typer.testing import CliRunner

from ray_jobs import registry, serve_app
from ray_jobs.cli import app
from ray_jobs.serve_config import ServeConfig
from s3pot.config import parse

REPOSITORY = Path(__file__).resolve().parent.parent
DEPLOY = REPOSITORY / "deploy"


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON schema of an object that has these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, WHOLE, NUMBER, FLAG = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "number"},
    {"type": "boolean"},
)
TEXTS = {"type": "object", "additionalProperties": TEXT}
# Of Kubernetes' pods what our manifests use; a quantity is a string such as 8Gi.
POD = _object(
    {
        "metadata": {"type": "object"},
        "spec": _object(
            {
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "items": _object(
                        {
                            "name": TEXT,
                            "image": TEXT,
                            "ports": {
                                "type": "array",
                                "items": _object({"name": TEXT, "containerPort": WHOLE}, ("containerPort",)),
                            },
                            "resources": _object({"requests": TEXTS, "limits": TEXTS}),
                            "volumeMounts": {
                                "type": "array",
                                "items": _object({"name": TEXT, "mountPath": TEXT}, ("name", "mountPath")),
                            },
                        },
                        ("name",),
                    ),
                },
                "volumes": {
                    "type": "array",
                    "items": _object(
                        {
                            "name": TEXT,
                            "persistentVolumeClaim": _object({"claimName": TEXT}, ("claimName",)),
                            "emptyDir": _object({"medium": TEXT, "sizeLimit": TEXT}),
                        },
                        ("name",),
                    ),
                },
            },
            ("containers",),
        ),
    }
)
# Field names, types and required fields of the ray.io/v1 custom resources of KubeRay, without what we do not use.
RAY_CLUSTER = _object(
    {
        "rayVersion": TEXT,
        "authOptions": _object({"mode": {"enum": ["disabled", "token"]}, "secretName": TEXT}),
        "enableInTreeAutoscaling": FLAG,
        "headGroupSpec": _object(
            {"rayStartParams": TEXTS, "serviceType": TEXT, "enableIngress": FLAG, "template": POD},
            ("rayStartParams", "template"),
        ),
        "workerGroupSpecs": {
            "type": "array",
            "items": _object(
                {
                    "groupName": TEXT,
                    "replicas": WHOLE,
                    "minReplicas": WHOLE,
                    "maxReplicas": WHOLE,
                    "numOfHosts": WHOLE,
                    "idleTimeoutSeconds": WHOLE,
                    "rayStartParams": TEXTS,
                    "template": POD,
                },
                ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            ),
        },
    },
    ("headGroupSpec",),
)
RAY_JOB = _object(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": _object({"name": TEXT, "namespace": TEXT, "labels": TEXTS}, ("name",)),
        "spec": _object(
            {
                "entrypoint": TEXT,
                "entrypointNumCpus": NUMBER,
                "entrypointNumGpus": NUMBER,
                "entrypointResources": TEXT,
                "runtimeEnvYAML": TEXT,
                "jobId": TEXT,
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
                "submitterConfig": _object({"backoffLimit": WHOLE}),
                "submitterPodTemplate": POD,
                "backoffLimit": WHOLE,
                "activeDeadlineSeconds": WHOLE,
                "shutdownAfterJobFinishes": FLAG,
                "ttlSecondsAfterFinished": WHOLE,
                "suspend": FLAG,
                "clusterSelector": TEXTS,
                "metadata": TEXTS,
                "rayClusterSpec": RAY_CLUSTER,
            }
        ),
    },
    ("apiVersion", "kind", "metadata", "spec"),
)

RAY_SERVICE = _object(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayService"},
        "metadata": _object({"name": TEXT, "namespace": TEXT, "labels": TEXTS}, ("name",)),
        "spec": _object(
            {
                "serveConfigV2": TEXT,
                "rayClusterConfig": RAY_CLUSTER,
                "upgradeStrategy": _object({"type": {"enum": ["NewCluster", "None"]}}),
                "rayClusterDeletionDelaySeconds": WHOLE,
                "excludeHeadPodFromServeSvc": FLAG,
            },
            ("rayClusterConfig",),
        ),
    },
    ("apiVersion", "kind", "metadata", "spec"),
)
RAY_JOBS = ["rayjob.yaml", "rayjob_predict.yaml"]


def _load(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def _accepts(words: list[str], command: Any = app) -> None:
    """Run a command of ours with --dry-run; paths of the repository are found from anywhere."""
    words = [str(REPOSITORY / word) if word.startswith("experiments/") else word for word in words]
    result = CliRunner().invoke(command, [*words, "--dry-run"])
    assert result.exit_code == 0, result.output


def _containers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Every container of a cluster, after a look at its volumes: every mount has one, and none is there for nothing."""
    found = []
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        mounts = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
        assert mounts == volumes
        found += pod["containers"]
    return found


def _limit(group: dict[str, Any], resource: str) -> int:
    """What one pod of a group has."""
    [container] = group["template"]["spec"]["containers"]
    return int(container["resources"]["limits"].get(resource, 0))


@pytest.mark.parametrize("name", RAY_JOBS)
def test_a_rayjob_is_one_that_kuberay_takes(name: str) -> None:
    job = _load(name)
    jsonschema.validate(job, RAY_JOB)
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))
    assert len({container["image"] for container in _containers(cluster)}) == 1
    words = shlex.split(spec["entrypoint"])
    assert words[:2] == ["python", "-m"]
    package, verb = words[2].split(".")
    assert package == "ray_jobs"
    _accepts([verb, *(word.removeprefix("/app/") for word in words[3:])])


def test_the_workers_of_a_rayjob_have_a_place() -> None:
    train, predict = (_load(name)["spec"] for name in RAY_JOBS)
    for spec, wanted in ((train, "workers"), (predict, "max_actors")):
        [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
        assert f"{wanted}={group['maxReplicas'] * _limit(group, 'nvidia.com/gpu')}" in shlex.split(spec["entrypoint"])
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert spec["entrypointNumCpus"] <= _limit(group, "cpu")


def _read_by_serve(written: dict[str, Any]) -> ServeDeploySchema:
    """Read a configuration as Serve does, which passes over keys that it does not know, and miss none of them."""
    config = ServeDeploySchema(**written)
    known = config.model_dump(exclude_unset=True)
    assert set(written) <= set(known)
    assert set(written["http_options"]) <= set(known["http_options"])
    for application, as_read in zip(written["applications"], known["applications"], strict=True):
        assert set(application) <= set(as_read)
    return config


def test_the_rayservice_is_one_that_kuberay_and_serve_take() -> None:
    service = _load("rayservice.yaml")
    jsonschema.validate(service, RAY_SERVICE)
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == ray.__version__
    written = yaml.safe_load(service["spec"]["serveConfigV2"])
    config = _read_by_serve(written)
    [application] = config.applications
    module, _, builder = application.import_path.partition(":")
    assert module == serve_app.__name__
    assert callable(getattr(serve_app, builder))
    wanted = parse(ServeConfig, application.args, where="rayservice.yaml")
    # What reads and computes has time to answer before the proxy gives up.
    assert config.http_options.request_timeout_s > wanted.limits.read_seconds + wanted.limits.answer_seconds
    assert {"name": "serve", "containerPort": config.http_options.port} in [
        port for container in _containers(cluster) for port in container["ports"]
    ]
    [group] = cluster["workerGroupSpecs"]
    assert wanted.replicas * wanted.gpus_per_replica == group["replicas"] * _limit(group, "nvidia.com/gpu")
    assert wanted.cpus_per_replica <= _limit(group, "cpu")


def test_the_rayservice_schema_and_serve_see_what_does_not_exist() -> None:
    service = _load("rayservice.yaml")
    with pytest.raises(jsonschema.ValidationError, match="rayClusterSpec"):
        jsonschema.validate({**service, "spec": {**service["spec"], "rayClusterSpec": {}}}, RAY_SERVICE)
    written = yaml.safe_load(service["spec"]["serveConfigV2"])
    application = written["applications"][0]
    with pytest.raises(AssertionError, match="import_pth"):
        _read_by_serve({**written, "applications": [{**application, "import_pth": "x"}]})
    with pytest.raises(ValueError, match="import path"):
        _read_by_serve({**written, "applications": [{**application, "import_path": "no-colon"}]})


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ((), "entryPoint"),
        (("rayClusterSpec", "headGroupSpec"), "replicas"),
        (("rayClusterSpec", "workerGroupSpecs", 0), "name"),
    ],
)
def test_the_rayjob_schema_sees_a_field_that_does_not_exist(place: tuple[Any, ...], field: str) -> None:
    job = _load("rayjob.yaml")
    inner = job["spec"]
    for key in place:
        inner = inner[key]
    inner[field] = "x"
    with pytest.raises(jsonschema.ValidationError, match=field):
        jsonschema.validate(job, RAY_JOB)


def test_the_cluster_yaml_is_one_that_ray_up_takes() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = _load("cluster.yaml")
    jsonschema.validate(config, schema)
    prepared = prepare_config(config)
    jsonschema.validate(prepared, schema)
    [node] = prepared["available_node_types"].values()
    assert node["max_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"head_adress": "x"}, schema)


def test_the_start_commands_are_ones_that_ray_has() -> None:
    config = _load("cluster.yaml")
    words = [
        word
        for line in config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        for word in line.split()
    ]
    known = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--help"], capture_output=True, text=True
    )
    for word in {word.partition("=")[0] for word in words if word.startswith("--")}:
        # This one is for `ray up` itself, and left out of the help.
        assert word in known.stdout or word == "--autoscaling-config"


def test_the_runtime_environment_is_one_that_ray_takes() -> None:
    assert set(RuntimeEnv(**_load("runtime_env.yaml"))) <= {"env_vars", "working_dir", "excludes"}


def test_commands_of_the_cluster_guide_exist() -> None:
    text = (REPOSITORY / "docs" / "cluster.md").read_text()
    lines = re.sub(r"\\\n\s*", " ", "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))).splitlines()
    ours = [shlex.split(line, comments=True) for line in lines if re.search(r"ray_jobs/\w+\.py|^s3pot ", line)]
    assert len(ours) >= 4
    for words in ours:
        if words[0] == "s3pot":
            _accepts(words[1:])
            continue
        [place] = [index for index, word in enumerate(words) if word.startswith("ray_jobs/")]
        assert (REPOSITORY / words[place]).is_file()
        if words[place] == "ray_jobs/registry.py":  # no verb of s3pot
            _accepts(words[place + 1 :], registry.app)
        else:
            _accepts([Path(words[place]).stem, *words[place + 1 :]])
    for file in re.findall(r"kubectl apply -f (\S+)", text):
        assert file in text.replace(f"-f {file}", ""), f"{file} is not spoken of"
        assert (REPOSITORY / file).is_file(), file
    for file in re.findall(r"`(deploy/[\w.]+|docs/[\w.]+|ray_jobs/[\w.]+|Dockerfile)`", text):
        assert (REPOSITORY / file).is_file(), file
