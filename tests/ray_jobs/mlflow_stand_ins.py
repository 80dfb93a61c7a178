"""What the tests of tracking share: a ready database, a server that never answers, and what a database holds."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient

# (name, value, step, time) of every metric, as often as it is stored
Metrics = list[tuple[str, float, int, int]]


def put_database(template: Path, runs: Path) -> str:
    """Copy an empty, migrated database into a folder of runs: making one takes seconds. Returns its URI."""
    runs.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, runs / "mlflow.db")
    return f"sqlite:///{runs / 'mlflow.db'}"


def stored_runs(uri: str) -> list[Run]:
    """All runs of a server, oldest first, deleted ones included."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return sorted(client.search_runs(experiments, "", ViewType.ALL, 1000), key=lambda run: run.info.start_time)


def stored_metrics(uri: str, run: Run) -> Metrics:
    """The whole history of every metric of a run."""
    client = MlflowClient(uri)
    histories = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    return sorted((m.key, m.value, m.step, m.timestamp) for history in histories for m in history)


def free_port() -> int:
    """A port of the loopback interface where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and never says a word; yields its address and the connections it took."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def take() -> None:
            while True:
                try:
                    taken.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", taken
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in taken:
        connection.close()


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A real server on loopback; it has its own process group, so that its workers go with it."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.1)
        yield server
    finally:
        if server.poll() is None:
            kill_server(server)


def kill_server(server: "subprocess.Popen[bytes]") -> None:
    """Kill a server with its workers."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
