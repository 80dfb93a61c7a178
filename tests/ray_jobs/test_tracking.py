"""MLflow: where it writes, nesting, failure, and that a server which is away harms no run."""

import json
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from ray_jobs import tracking
from ray_jobs.mlflow_upload import LONGEST_WAIT
from ray_jobs.sync import sync
from ray_jobs.tracking import tracked_run, tracking_uri
from tests.ray_jobs.mlflow_stand_ins import (
    free_port,
    mlflow_server,
    put_database,
    silent_server,
    stored_metrics,
    stored_runs,
)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_database(empty_database, tmp_path / "runs")
    return tmp_path / "runs"


def _events(runs: Path) -> list[dict[str, Any]]:
    [path] = runs.rglob("tracking-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def _small_run(runs: Path) -> None:
    """A run with all that can be logged."""
    (runs / "note.txt").write_text("x")
    with tracked_run("kind", "small", {"lam": 0.5}, runs) as run:
        run.log_metrics({"iou": 0.25, "total": 1.5}, step=0)
        run.log_metrics({"iou": 0.5}, step=1)
        run.log_artifact(runs / "note.txt")
        with run.child("first", {"image": "1"}) as child:
            child.log_metrics({"iou": 0.75})


def _assert_small_run_is_there_once(uri: str) -> None:
    parent, child = sorted(stored_runs(uri), key=lambda run: "mlflow.parentRunId" in run.data.tags)
    assert [entry[:3] for entry in stored_metrics(uri, parent)] == [
        ("iou", 0.25, 0),
        ("iou", 0.5, 1),
        ("total", 1.5, 0),
    ]
    assert [entry[:3] for entry in stored_metrics(uri, child)] == [("iou", 0.75, 0)]
    assert (parent.data.params, child.data.params) == ({"lam": "0.5"}, {"image": "1"})
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert [artifact.path for artifact in MlflowClient(uri).list_artifacts(parent.info.run_id)] == ["note.txt"]


def test_children_are_nested_and_numbers_arrive(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x")
    with tracked_run("kind", "parent", {"a": {"b": 1}, "c": "x" * 9000}, runs) as parent:
        parent.log_metrics({"iou": 0.5, "undefined": float("nan")}, step=3)
        parent.log_artifact(tmp_path / "note.txt")
        with parent.child("first", {"image": "1"}) as child:
            child.log_metrics({f"m{index}": float(index) for index in range(1100)})
    client = MlflowClient(tracking_uri(runs))
    experiment = client.get_experiment_by_name("s3pot/kind")
    assert experiment is not None
    assert str(runs) in experiment.artifact_location
    nested = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.run_id}'")
    assert [run.info.run_id for run in nested] == [child.run_id]
    assert len(nested[0].data.metrics) == 1100
    stored = client.get_run(parent.run_id)
    assert stored.data.params["a.b"] == "1"
    assert stored.data.metrics == {"iou": 0.5}
    assert stored.info.status == "FINISHED"
    assert [artifact.path for artifact in client.list_artifacts(parent.run_id)] == ["note.txt"]


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_that_raises_is_marked(runs: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracked_run("kind", "bad", {}, runs) as run, run.child("inner", {}) as child:
        raise error
    client = MlflowClient(tracking_uri(runs))
    assert client.get_run(run.run_id).info.status == client.get_run(child.run_id).info.status == status
    assert [event["status"] for event in _events(runs) if event["event"] == "close"] == [status, status]


def test_the_environment_names_the_server(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    assert tracking_uri(tmp_path / "new") == elsewhere
    assert not (tmp_path / "new").exists()


def test_an_artifact_that_is_not_there_is_an_error_at_once(runs: Path, tmp_path: Path) -> None:
    with tracked_run("kind", "x", {}, runs) as run, pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        run.log_artifact(tmp_path / "nothing.txt")


def test_the_journal_holds_what_was_logged_and_that_it_arrived(runs: Path) -> None:
    _small_run(runs)
    events = _events(runs)
    assert [event["event"] for event in events] == [
        *("open", "params", "metrics", "metrics", "artifact"),
        *("open", "params", "metrics", "close", "close", "uploaded"),
    ]
    assert [(event["step"], event["metrics"]) for event in events if event["event"] == "metrics"] == [
        (0, {"iou": 0.25, "total": 1.5}),
        (1, {"iou": 0.5}),
        (0, {"iou": 0.75}),
    ]
    assert events[4]["path"] == "note.txt"
    assert events[0]["uri"] is None
    _assert_small_run_is_there_once(tracking_uri(runs))


def test_a_run_goes_on_where_no_server_listens(
    runs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@127.0.0.1:{free_port()}")
    with caplog.at_level(logging.WARNING, "s3pot.tracking"):
        _small_run(runs)
    assert [event["event"] for event in _events(runs)][-1] == "close", "and nothing says that it arrived"
    said = [record.getMessage() for record in caplog.records if record.name == "s3pot.tracking"]
    assert len(said) == 2, "one sentence when it is noticed, one at the end"
    assert f"`s3pot sync {runs}`" in said[-1]
    assert "secret" not in "".join(said) + json.dumps(_events(runs))


def test_a_server_that_never_answers_is_asked_a_few_times_only(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as (uri, connections):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with tracked_run("kind", "x", {}, runs) as run:
            for step in range(200):
                run.log_metrics({"iou": 0.5}, step=step)
            assert run.run_id is None
        # Two tries when the run opens and two when it ends.
        assert len(connections) == 4
        with pytest.raises(KeyboardInterrupt), tracked_run("kind", "y", {}, runs):
            raise KeyboardInterrupt
        assert len(connections) == 6, "who interrupts does not wait for the server once more"


def test_the_longest_wait_is_what_the_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.environment_variables import (
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
        MLFLOW_HTTP_REQUEST_BACKOFF_JITTER,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES,
        MLFLOW_HTTP_REQUEST_TIMEOUT,
        MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER,
    )

    from ray_jobs.mlflow_upload import limit_patience

    for variable in (MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR):
        monkeypatch.delenv(variable.name, raising=False)
    limit_patience()
    retries = MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    pause = MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR.get() * 2**retries + MLFLOW_HTTP_REQUEST_BACKOFF_JITTER.get()
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() * (retries + 1) + pause * retries <= LONGEST_WAIT
    assert not MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER.get()
    monkeypatch.setenv(MLFLOW_HTTP_REQUEST_TIMEOUT.name, "77")
    limit_patience()
    assert MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 77, "what the user has set stays"


class _Flaky:
    """A client whose n-th call fails, before the server has done it or after."""

    calls = 0

    def __init__(self, client: MlflowClient, failing: int, after: bool) -> None:
        self._client, self._failing, self._after = client, failing, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **named: Any) -> Any:
            _Flaky.calls += 1
            fails = _Flaky.calls == self._failing
            if fails and not self._after:
                raise ConnectionError("the line is dead")
            result = method(*arguments, **named)
            if fails:
                raise ConnectionError("the answer got lost")
            return result

        return call


@pytest.mark.parametrize(("after", "retry"), [(False, 60.0), (True, 0.0)], ids=["before-late", "after-at-once"])
def test_whichever_call_fails_everything_is_there_once(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch, after: bool, retry: float
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "_RETRY_SECONDS", retry)
    monkeypatch.setattr(tracking, "_RETRY_FACTOR", 0.0)
    failing = 0
    while failing == 0 or failing <= _Flaky.calls:
        failing += 1
        _Flaky.calls = 0
        runs = tmp_path / str(failing)
        uri = put_database(empty_database, runs)
        with monkeypatch.context() as patched:
            patched.setattr(
                "ray_jobs.mlflow_upload.MlflowClient",
                lambda tracking_uri, failing=failing: _Flaky(MlflowClient(tracking_uri), failing, after),
            )
            _small_run(runs)
        _assert_small_run_is_there_once(uri)
        assert [entry.outcome for entry in sync(runs)] == ["there already"]
    assert failing > 12, "every call was made to fail, and then none"


def test_tags_are_found_in_mlflow_and_in_the_journal(runs: Path) -> None:
    with (
        tracked_run("kind", "x", {}, runs, tags={"s3pot.code": "abc"}) as run,
        run.child("inner", {}, {"s3pot.trial": "123"}) as child,
    ):
        pass
    client = MlflowClient(tracking_uri(runs))
    assert client.get_run(run.run_id).data.tags["s3pot.code"] == "abc"
    assert client.get_run(child.run_id).data.tags["s3pot.trial"] == "123"
    assert [event["tags"] for event in _events(runs) if event["event"] == "open"] == [
        {"s3pot.code": "abc"},
        {"s3pot.trial": "123"},
    ]


WRITERS, TRIALS, EPOCHS = 8, 3, 5


def write_a_sweep(number: int, runs: Path, uri: str | None) -> None:
    """What one of several jobs does at the same time; runs in a process of its own."""
    if uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = uri
    note = runs / f"note-{number}.txt"
    note.write_text("x")
    with tracked_run("sweep", f"sweep-{number}", {"lam": 0.5}, runs, tags={"number": str(number)}) as run:
        for trial in range(TRIALS):
            with run.child(f"{number}/{trial}", {"seed": trial}, {"number": str(number)}) as child:
                for epoch in range(EPOCHS):
                    child.log_metrics({"total": number + trial / 10 + epoch / 100, "iou": 0.5}, step=epoch)
        run.log_artifact(note)


def _write_at_once(runs: Path, uri: str | None) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ray_jobs.tracking", __name__])  # MLflow is imported once, not eight times
    jobs = [context.Process(target=write_a_sweep, args=(number, runs, uri)) for number in range(WRITERS)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0] * WRITERS


def _assert_all_is_there_once(uri: str, runs: Path) -> None:
    found = stored_runs(uri)
    parents = {run.info.run_id: run for run in found if "mlflow.parentRunId" not in run.data.tags}
    assert (len(parents), len(found)) == (WRITERS, WRITERS * (1 + TRIALS))
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        if run.info.run_id in parents:
            continue
        parent = parents[run.data.tags["mlflow.parentRunId"]]
        assert parent.data.tags["number"] == run.data.tags["number"]
        start = int(run.data.tags["number"]) + int(run.data.params["seed"]) / 10
        expected = [("iou", 0.5, epoch) for epoch in range(EPOCHS)]
        expected += [("total", start + epoch / 100, epoch) for epoch in range(EPOCHS)]
        assert [entry[:3] for entry in stored_metrics(uri, run)] == expected
    last = [path.read_text().splitlines()[-1] for path in runs.rglob("tracking-*.jsonl")]
    assert [json.loads(line)["event"] for line in last] == ["uploaded"] * WRITERS, "without `sync`"


def test_eight_writers_of_one_database_lose_nothing(runs: Path) -> None:
    _write_at_once(runs, None)
    _assert_all_is_there_once(tracking_uri(runs), runs)


@pytest.mark.slow
def test_eight_writers_of_one_server_lose_nothing(tmp_path: Path, empty_database: Path) -> None:
    put_database(empty_database, tmp_path)
    port, runs = free_port(), tmp_path / "runs"
    runs.mkdir()
    with mlflow_server(tmp_path, port):
        _write_at_once(runs, f"http://127.0.0.1:{port}")
    _assert_all_is_there_once(f"sqlite:///{tmp_path / 'mlflow.db'}", runs)
