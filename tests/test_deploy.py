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
from typer.testing import CliRunner

from ray_jobs.cli import app

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


def _load(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def _accepts(words: list[str]) -> None:
    """Run a command of ours with --dry-run; paths of the repository are found from anywhere."""
    words = [str(REPOSITORY / word) if word.startswith("experiments/") else word for word in words]
    result = CliRunner().invoke(app, [*words, "--dry-run"])
    assert result.exit_code == 0, result.output


def test_the_rayjob_is_one_that_kuberay_takes() -> None:
    job = _load("rayjob.yaml")
    jsonschema.validate(job, RAY_JOB)
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))
    # Workers of the training and the driver have a place, and every mount its volume.
    gpus = sum(
        group["replicas"] * int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
        for group in cluster["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
    )
    words = shlex.split(spec["entrypoint"])
    assert f"workers={gpus}" in words
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} == volumes
    assert words[:3] == ["python", "-m", "ray_jobs.train"]
    _accepts(["train", *(word.removeprefix("/app/") for word in words[3:])])


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
        _accepts([Path(words[place]).stem, *words[place + 1 :]])
    for file in re.findall(r"`(deploy/[\w.]+|docs/[\w.]+|ray_jobs/[\w.]+)`", text):
        assert (REPOSITORY / file).is_file(), file
