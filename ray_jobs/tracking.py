"""MLflow as the jobs use it: one experiment per kind of job, one writer, children really nested.

Only the driver of a job writes. Workers return numbers and files; per-image numbers go up as one Parquet table.
`MLFLOW_TRACKING_URI` is respected; without it everything goes to `<runs>/mlflow.db` (SQLite) with artifacts beside it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

# Limits of one log_batch call in MLflow.
_METRICS_PER_CALL, _PARAMS_PER_CALL, _PARAM_LENGTH = 1000, 100, 6000


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run, open for writing."""

    client: MlflowClient
    experiment_id: str
    run_id: str

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers of one step in one call; NaN is skipped (SQLite stores it as 0)."""
        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, step) for name, value in metrics.items() if value == value]
        for first in range(0, len(entries), _METRICS_PER_CALL):
            self.client.log_batch(self.run_id, metrics=entries[first : first + _METRICS_PER_CALL])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder)

    @contextmanager
    def child(self, name: str, params: Mapping[str, Any]) -> Iterator["TrackedRun"]:
        """Open a run nested below this one."""
        with _run(self.client, self.experiment_id, name, params, {MLFLOW_PARENT_RUN_ID: self.run_id}) as run:
            yield run


@contextmanager
def tracked_run(kind: str, name: str, params: Mapping[str, Any], runs: Path) -> Iterator[TrackedRun]:
    """Open a run in the experiment `s3pot/<kind>`; it ends as FAILED when the block raises.

    Args:
        kind: kind of job, e.g. "train".
        name: shown in the MLflow list.
        params: nested mappings are flattened to dotted keys.
        runs: folder of all results, home of the default database.
    """
    uri = tracking_uri(runs)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(f"s3pot/{kind}")
    if experiment is None:
        # Without an explicit place, artifacts of a SQLite store land in whatever folder the job was started from.
        place = None if os.environ.get("MLFLOW_TRACKING_URI") else (runs.resolve() / "mlartifacts" / kind).as_uri()
        experiment_id = client.create_experiment(f"s3pot/{kind}", artifact_location=place)
    else:
        experiment_id = experiment.experiment_id
    with _run(client, experiment_id, name, params, {}) as run:
        yield run


def tracking_uri(runs: Path) -> str:
    """Return `MLFLOW_TRACKING_URI`, or the SQLite database below `runs`."""
    configured = os.environ.get("MLFLOW_TRACKING_URI")
    if configured:
        return configured
    runs.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{runs.resolve() / 'mlflow.db'}"


@contextmanager
def _run(
    client: MlflowClient, experiment_id: str, name: str, params: Mapping[str, Any], tags: dict[str, str]
) -> Iterator[TrackedRun]:
    created = client.create_run(experiment_id, run_name=name, tags=tags)
    run = TrackedRun(client, experiment_id, created.info.run_id)
    entries = [Param(key, str(value)[:_PARAM_LENGTH]) for key, value in _flatten(params)]
    try:
        for first in range(0, len(entries), _PARAMS_PER_CALL):
            client.log_batch(run.run_id, params=entries[first : first + _PARAMS_PER_CALL])
        yield run
    except BaseException:
        client.set_terminated(run.run_id, status="FAILED")
        raise
    client.set_terminated(run.run_id)


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
