"""MLflow: where it writes, nesting, failure."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ray_jobs.tracking import tracked_run, tracking_uri


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "runs"


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


def test_a_run_that_raises_is_marked_failed(runs: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), tracked_run("kind", "bad", {}, runs) as run:
        raise RuntimeError("boom")
    assert MlflowClient(tracking_uri(runs)).get_run(run.run_id).info.status == "FAILED"


def test_the_environment_names_the_server(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    assert tracking_uri(runs) == elsewhere
    assert not runs.exists()
