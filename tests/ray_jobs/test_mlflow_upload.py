"""Sending events to MLflow: links, passwords, limits of a call; tests of sync show that it may be repeated."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ray_jobs.mlflow_upload import Upload, one_line, without_password
from tests.ray_jobs.mlflow_stand_ins import put_database, stored_runs

OPEN = {
    "event": "open",
    "run": "a1",
    "parent": None,
    "experiment": "s3pot/train",
    "name": "x",
    "time": 1000,
    "uri": None,
}


@pytest.fixture
def upload(empty_database: Path, tmp_path: Path) -> Upload:
    return Upload(put_database(empty_database, tmp_path / "runs"), tmp_path / "runs", maybe_known=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:pa55@host:5000/base", "http://host:5000/base"),
        ("postgresql://ann:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
        (
            "no answer from http://ann:pa55@host/x or http://bob:word@host/y",
            "no answer from http://host/x or http://host/y",
        ),
    ],
)
def test_passwords_are_left_out(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_an_error_is_one_line() -> None:
    assert one_line(ValueError("first\n  second")) == "first second"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 9000))) < 210


def test_links_lead_to_the_run(upload: Upload) -> None:
    upload.send(OPEN)
    [run] = stored_runs(upload.uri)
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert upload.link(OPEN) == (
        f"http://127.0.0.1:5000/{place} after: mlflow server --backend-store-uri {upload.uri} --host 127.0.0.1"
    )
    upload.uri = "https://ann:pa55@mlflow.example/base/"
    assert upload.link(OPEN) == f"https://mlflow.example/base/{place}"


def test_many_and_long_parameters_arrive_in_parts(upload: Upload) -> None:
    params = {f"p{number}": "x" * 9000 if number == 0 else str(number) for number in range(250)}
    upload.send(OPEN)
    upload.send({"event": "params", "run": "a1", "params": params})
    [run] = stored_runs(upload.uri)
    assert len(run.data.params) == 250
    assert run.data.params["p0"] == "x" * 6000
    assert run.data.params["p249"] == "249"


def test_artifacts_of_a_database_lie_in_the_runs_folder(upload: Upload, tmp_path: Path) -> None:
    upload.send(OPEN)
    experiment = MlflowClient(upload.uri).get_experiment_by_name("s3pot/train")
    assert experiment is not None
    assert experiment.artifact_location == (tmp_path / "runs" / "mlartifacts" / "train").as_uri()


def test_an_unknown_event_is_refused(upload: Upload) -> None:
    upload.send(OPEN)
    with pytest.raises(ValueError, match="'dance'"):
        upload.send({"event": "dance", "run": "a1"})
