"""`s3pot sync`: what a server lacks gets there once, whatever happened to the run or the server."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from ray_jobs.cli import app
from ray_jobs.journal import PATTERN, Journal
from ray_jobs.sync import sync
from ray_jobs.tracking import tracked_run, tracking_uri
from tests.ray_jobs.mlflow_stand_ins import (
    free_port,
    kill_server,
    mlflow_server,
    put_database,
    silent_server,
    stored_metrics,
    stored_runs,
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one run of two metrics and an artifact, made while no server listened."""
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    (runs / "note.txt").write_text("x")
    with tracked_run("kind", "away", {"lam": 0.5}, runs) as run:
        run.log_metrics({"iou": 0.25}, step=0)
        run.log_metrics({"iou": 0.5}, step=1)
        run.log_artifact(runs / "note.txt")
    return runs


@pytest.fixture
def server(runs: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A server that is there now."""
    uri = put_database(empty_database, runs.parent / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def _journal(runs: Path) -> Path:
    [path] = runs.rglob(PATTERN)
    return path


def test_a_run_is_uploaded_once_with_the_times_it_was_measured_at(runs: Path, server: str) -> None:
    logged = [json.loads(line) for line in _journal(runs).read_text().splitlines()]
    times = [event["time"] for event in logged if "time" in event]
    assert [entry.outcome for entry in sync(runs)] == ["uploaded"]
    assert [entry.outcome for entry in sync(runs)] == ["there already"]
    [run] = stored_runs(server)
    assert stored_metrics(server, run) == [("iou", 0.25, 0, times[1]), ("iou", 0.5, 1, times[2])]
    assert (run.info.start_time, run.info.end_time, run.info.status) == (times[0], times[3], "FINISHED")
    assert run.data.params == {"lam": "0.5"}
    assert [artifact.path for artifact in MlflowClient(server).list_artifacts(run.info.run_id)] == ["note.txt"]


def test_a_half_uploaded_run_is_completed_and_not_doubled(
    runs: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the server went away again")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", fail)
        [entry] = sync(runs)
    assert (entry.outcome, "went away again" in entry.detail) == ("failed", True)
    [run] = stored_runs(server)
    assert run.info.status == "RUNNING"
    assert [entry.outcome for entry in sync(runs)] == ["uploaded"]
    [run] = stored_runs(server)
    assert [entry[:3] for entry in stored_metrics(server, run)] == [("iou", 0.25, 0), ("iou", 0.5, 1)]
    assert run.info.status == "FINISHED"


def test_the_confirmation_that_got_lost_doubles_nothing(runs: Path, server: str) -> None:
    sync(runs)
    path = _journal(runs)
    path.write_text("".join(line for line in path.open() if "uploaded" not in line))
    assert [entry.outcome for entry in sync(runs)] == ["uploaded"]
    [run] = stored_runs(server)
    assert len(stored_metrics(server, run)) == 2


def test_a_killed_run_ends_as_killed_when_it_last_wrote(runs: Path, server: str) -> None:
    path = _journal(runs)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # open, params, a metric, half a metric
    assert [entry.outcome for entry in sync(runs)] == ["uploaded"]
    [run] = stored_runs(server)
    assert (run.info.status, run.info.end_time) == ("KILLED", json.loads(lines[2])["time"])
    assert [entry[:3] for entry in stored_metrics(server, run)] == [("iou", 0.25, 0)]


def test_a_running_run_is_left_alone(runs: Path, server: str) -> None:
    with Journal(_journal(runs)):
        assert [entry.outcome for entry in sync(runs)] == ["still running"]
    assert stored_runs(server) == []


def test_a_run_that_somebody_deleted_stays_deleted(runs: Path, server: str) -> None:
    sync(runs)
    [run] = stored_runs(server)
    MlflowClient(server).delete_run(run.info.run_id)
    path = _journal(runs)
    path.write_text("".join(line for line in path.open() if "uploaded" not in line))
    assert [entry.outcome for entry in sync(runs)] == ["uploaded"]
    assert [run.info.lifecycle_stage for run in stored_runs(server)] == ["deleted"]


def test_an_artifact_that_is_gone_is_named_once_and_the_rest_is_there(runs: Path, server: str) -> None:
    (runs / "note.txt").unlink()
    [entry] = sync(runs)
    assert (entry.outcome, str(runs / "note.txt") in entry.detail) == ("failed", True)
    assert [entry.outcome for entry in sync(runs)] == ["there already"]
    [run] = stored_runs(server)
    assert (len(stored_metrics(server, run)), run.info.status) == (2, "FINISHED")


def test_a_moved_folder_still_finds_its_artifacts(runs: Path, server: str) -> None:
    moved = runs.rename(runs.with_name("moved"))
    assert [entry.outcome for entry in sync(moved)] == ["uploaded"]
    [run] = stored_runs(server)
    assert [artifact.path for artifact in MlflowClient(server).list_artifacts(run.info.run_id)] == ["note.txt"]


def test_runs_of_the_local_database_go_to_a_server_when_one_is_named(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    local = tmp_path / "local"
    uri = put_database(empty_database, local)
    with tracked_run("kind", "x", {}, local) as run:
        run.log_metrics({"iou": 0.5})
    assert [entry.outcome for entry in sync(local)] == ["there already"]
    elsewhere = put_database(empty_database, tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    assert [entry.outcome for entry in sync(local)] == ["uploaded"]
    assert [entry.outcome for entry in sync(local)] == ["there already"]
    [there], [here] = stored_runs(elsewhere), stored_runs(uri)
    assert stored_metrics(elsewhere, there) == stored_metrics(uri, here)


def test_without_the_variable_a_run_goes_where_it_wanted_to_go(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = put_database(empty_database, tmp_path / "server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_run", lambda *_: (_ for _ in ()).throw(ConnectionError("away")))
        with tracked_run("kind", "x", {}, tmp_path / "runs") as run:
            run.log_metrics({"iou": 0.5})
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert [entry.outcome for entry in sync(tmp_path / "runs")] == ["uploaded"]
    assert len(stored_runs(server)) == 1
    assert not (tmp_path / "runs" / "mlflow.db").exists()


def test_a_silent_server_is_waited_for_once_not_once_a_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = _journal(runs)
    for number in range(5):
        (copy.parent / f"tracking-{number}.jsonl").write_bytes(copy.read_bytes())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as (uri, connections):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert {entry.outcome for entry in sync(runs)} == {"failed"}
        assert len(connections) == 2


def test_exit_codes_and_sentences(runs: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(_journal(runs))
    away = CliRunner().invoke(app, ["sync", str(runs)])
    assert (away.exit_code, path in away.stderr, "1 failed" in away.stdout) == (1, True, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", put_database(empty_database, runs.parent / "server"))
    planned = CliRunner().invoke(app, ["sync", str(runs), "--dry-run"])
    assert (planned.exit_code, "1 run, 2 metrics, 1 artifact" in planned.stdout) == (0, True)
    assert stored_runs(tracking_uri(runs)) == []
    done = CliRunner().invoke(app, ["sync", str(runs)])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "1 uploaded")
    again = CliRunner().invoke(app, ["sync", str(runs)])
    assert (again.exit_code, again.stdout) == (0, "1 there already\n")
    missing = CliRunner().invoke(app, ["sync", str(runs / "nowhere")])
    assert (missing.exit_code, "no such folder" in missing.stderr) == (2, True)
    with Path(path).open("a") as journal:
        journal.write("not JSON\n")
    damaged = CliRunner().invoke(app, ["sync", str(runs)])
    assert (damaged.exit_code, "damaged" in damaged.stderr) == (1, True)


@pytest.mark.chaos
def test_a_server_killed_in_the_middle_of_a_run_has_everything_once_after_sync(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_database(empty_database, tmp_path)
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    runs = tmp_path / "runs"
    with mlflow_server(tmp_path, port) as server:
        with tracked_run("train", "x", {"lam": 0.5}, runs) as run:
            for step in range(20):
                if step == 10:
                    assert run.run_id is not None, "the first half went to the server"
                    kill_server(server)
                run.log_metrics({"total": 1.0 / (step + 1), "iou": step / 20}, step=step)
            run.log_artifact(next(runs.rglob(PATTERN)))
    direct = f"sqlite:///{tmp_path / 'mlflow.db'}"
    [half] = stored_runs(direct)
    assert (len(stored_metrics(direct, half)), half.info.status) == (20, "RUNNING")
    with mlflow_server(tmp_path, port):
        assert [entry.outcome for entry in sync(runs)] == ["uploaded"]
        assert [entry.outcome for entry in sync(runs)] == ["there already"]
        artifacts = [artifact.path for artifact in MlflowClient().list_artifacts(half.info.run_id)]
    [whole] = stored_runs(direct)
    wanted = [("iou", step / 20, step) for step in range(20)] + [
        ("total", 1.0 / (step + 1), step) for step in range(20)
    ]
    assert [entry[:3] for entry in stored_metrics(direct, whole)] == sorted(wanted)
    assert (whole.info.run_id, whole.info.status) == (half.info.run_id, "FINISHED")
    assert len(artifacts) == 1
