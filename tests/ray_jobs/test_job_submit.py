"""One real `ray job submit`: a head node with its job server, the working directory uploaded, the training job run."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3pot.store.prompt_store import PromptStore

# Away from the defaults: the tests' own cluster runs on this machine too.
GCS_PORT, DASHBOARD_PORT, AGENT_PORT = 6397, 8297, 8298
RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture
def job_server() -> Iterator[str]:
    """Start a head node on loopback; every process of it is stopped afterwards."""
    # Unix socket paths are short: a folder of pytest's would be too long.
    folder = tempfile.mkdtemp(prefix="s3pot-ray-", dir="/tmp")
    command = [RAY, "start", "--head", f"--port={GCS_PORT}", f"--dashboard-port={DASHBOARD_PORT}"]
    command += [
        "--dashboard-host=127.0.0.1",
        f"--dashboard-agent-listen-port={AGENT_PORT}",
        "--num-cpus=2",
        f"--temp-dir={folder}",
        "--disable-usage-stats",
    ]
    started = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert started.returncode == 0, started.stderr
    yield f"http://127.0.0.1:{DASHBOARD_PORT}"
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if folder in (process / "cmdline").read_text():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue
    shutil.rmtree(folder, ignore_errors=True)


def _submit(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Submit, again while the node's agent is still starting: `ray start` returns before it takes jobs."""
    for _ in range(12):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if "No available agent" not in done.stderr + done.stdout:
            break
        time.sleep(5)
    return done


def test_train_runs_under_ray_job_submit(
    astronaut_store: PromptStore, job_server: str, repository: Path, tmp_path: Path
) -> None:
    entrypoint = [sys.executable, "ray_jobs/train.py", f"store={astronaut_store.root}", f"runs={tmp_path / 'runs'}"]
    command = [RAY, "job", "submit", "--address", job_server, "--working-dir", ".", "--", *entrypoint]
    submitted = _submit([*command, "training.epochs=1", "name=submitted"], repository)
    assert submitted.returncode == 0, submitted.stdout[-3000:] + submitted.stderr[-2000:]
    assert "succeeded" in submitted.stdout.lower() + submitted.stderr.lower()
    assert (tmp_path / "runs" / "train" / "submitted" / "reweighter.safetensors").is_file()
    assert (tmp_path / "runs" / "mlflow.db").is_file()
