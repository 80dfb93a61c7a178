"""`ray job submit` on a local cluster of two nodes: what travels, where it runs, how it is stopped."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.util.state import list_actors

from s3pot.store.prompt_store import PromptStore
from tests.ray_jobs.mlflow_stand_ins import stored_runs

# Away from the defaults: the tests' own cluster runs on this machine too.
GCS_PORT, DASHBOARD_PORT, AGENT_PORT = 6397, 8297, 8298
RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(scope="module")
def job_server() -> Iterator[str]:
    """Start two nodes of two CPUs each on loopback; every process of them is stopped afterwards."""
    # Unix socket paths are short: a folder of pytest's would be too long.
    folder = tempfile.mkdtemp(prefix="s3pot-ray-", dir="/tmp")
    head = ["--head", f"--port={GCS_PORT}", f"--dashboard-port={DASHBOARD_PORT}", "--dashboard-host=127.0.0.1"]
    head += [f"--temp-dir={folder}"]
    # Nothing but what travels with a job may be imported.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        for number, which in enumerate([head, [f"--address=127.0.0.1:{GCS_PORT}"]]):
            common = ["--num-cpus=2", f"--dashboard-agent-listen-port={AGENT_PORT + number}", "--disable-usage-stats"]
            command = [RAY, "start", *which, *common]
            started = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert started.returncode == 0, started.stderr
        yield f"http://127.0.0.1:{DASHBOARD_PORT}"
    finally:
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    # The second node takes over the head's folder.
                    if folder in (process / "cmdline").read_text():
                        os.kill(int(process.name), signal.SIGKILL)
                except OSError:
                    continue
        shutil.rmtree(folder, ignore_errors=True)


def _submit(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Submit, again while the node's agent is still starting: `ray start` returns before it takes jobs."""
    for _ in range(12):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if "No available agent" not in done.stderr + done.stdout:
            break
        time.sleep(5)
    return done


def _wait_for(what: Callable[[], object], seconds: int = 120) -> None:
    for _ in range(seconds * 5):
        if what():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen")


def test_what_travels(repository: Path, tmp_path: Path) -> None:
    """Ray's own packing of a checkout that holds data and outputs: code and weights travel, nothing else."""
    from ray._private.runtime_env.packaging import create_package

    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in (".gitignore", ".rayignore"):
        shutil.copy(repository / name, checkout)
    travels = [
        *("ray_jobs/train.py", "s3pot/data/folds.py", "s3pot/weights/nano_sam.safetensors", "pyproject.toml"),
        *("analysis/templates/report.html", "experiments/standard.yaml"),
    ]
    stays = [
        *("runs/stores/a/shard.safetensors", "runs/mlflow.db", "mlflow.db", "mlruns/1/meta.yaml", "mlartifacts/a.png"),
        *(".venv/bin/python", ".git/config", "tests/test_images.py", "demo_output/report.html", "train.log"),
        *("s3pot/weights/sam_vit_h_4b8939.pth", "s3pot/__pycache__/a.pyc", "docs/chain.png", "deploy/rayjob.yaml"),
    ]
    for name in [*travels, *stays]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("x")
    create_package(str(checkout), tmp_path / "package.zip", include_gitignore=True)
    packed = {name for name in zipfile.ZipFile(tmp_path / "package.zip").namelist() if not name.endswith("/")}
    assert packed == {*travels, ".gitignore", ".rayignore"}


def test_the_checkout_is_small_enough_to_travel(repository: Path, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    create_package(str(repository), tmp_path / "package.zip", include_gitignore=True)
    # Ray's job server refuses uploads of more than 100 MiB.
    assert (tmp_path / "package.zip").stat().st_size < 60 * 1024**2


def test_train_runs_on_two_nodes_under_ray_job_submit(
    astronaut_store: PromptStore, job_server: str, repository: Path, tmp_path: Path
) -> None:
    entrypoint = [sys.executable, "ray_jobs/train.py", f"store={astronaut_store.root}", f"runs={tmp_path / 'runs'}"]
    # Each worker takes two CPUs: all that a node has.
    entrypoint += ["workers=2", "training.epochs=1", "name=submitted"]
    command = [RAY, "job", "submit", "--address", job_server, "--runtime-env", "deploy/runtime_env.yaml"]
    command += ["--working-dir", ".", "--entrypoint-num-cpus", "0", "--", *entrypoint]
    submitted = _submit(command, repository)
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-2000:]
    assert "succeeded" in submitted.stdout.lower() + submitted.stderr.lower()
    assert (tmp_path / "runs" / "train" / "submitted" / "reweighter.safetensors").is_file()
    [run] = stored_runs(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    assert run.info.status == "FINISHED"
    workers = [actor for actor in list_actors(address=job_server) if "TrainWorker" in actor.class_name]
    assert len({actor.node_id for actor in workers}) == 2
    # The log is plain lines: where to look, and an epoch.
    assert f"Ray dashboard: {job_server}" in submitted.stdout
    assert "epoch 1/1 objective" in submitted.stdout
    assert "Traceback" not in submitted.stdout


@pytest.mark.chaos
def test_a_stopped_job_is_marked_killed(
    astronaut_store: PromptStore, job_server: str, repository: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    entrypoint = [sys.executable, "ray_jobs/train.py", f"store={astronaut_store.root}", f"runs={runs}"]
    entrypoint += ["training.epochs=5000", "name=stopped"]
    command = [RAY, "job", "submit", "--address", job_server, "--runtime-env", "deploy/runtime_env.yaml"]
    command += ["--working-dir", ".", "--submission-id", "to-be-stopped", "--no-wait", "--", *entrypoint]
    submitted = _submit(command, repository)
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-2000:]
    history = runs / "train" / "stopped" / "history.jsonl"
    _wait_for(lambda: history.is_file() and history.read_text())
    subprocess.run(
        [RAY, "job", "stop", "--address", job_server, "to-be-stopped"], capture_output=True, timeout=60, check=True
    )
    _wait_for(lambda: [run.info.status for run in stored_runs(f"sqlite:///{runs / 'mlflow.db'}")] == ["KILLED"], 20)
    logs = [RAY, "job", "logs", "--address", job_server, "to-be-stopped"]
    said = subprocess.run(logs, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "terminated: what is finished is kept" in said
    assert "Traceback" not in said
