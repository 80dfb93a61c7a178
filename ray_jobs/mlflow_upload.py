"""Sending the events of a journal to MLflow, so that sending them again changes nothing.

A run carries its journal's id as a tag and is looked up by it before it is made; a metric is sent with the time it was
measured, and MLflow keeps one of two that agree in name, step, time and value; parameters, artifacts and the final
status are what they were. A server may therefore go away at any moment: all is sent once more, and is there once.
"""

import os
import re
from pathlib import Path

from mlflow.entities import Metric, Param, Run, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ray_jobs.journal import Event

# Limits of one log_batch call in MLflow.
_METRICS_PER_CALL, _PARAMS_PER_CALL, _PARAM_LENGTH = 1000, 100, 6000
JOURNAL_TAG = "s3pot.journal"

# MLflow's own client tries for four minutes and waits as long as a server asks it to. Two tries of ten seconds: nothing
# here waits longer than LONGEST_WAIT for a server (looking up its name apart).
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
LONGEST_WAIT = 25.0


class Upload:
    """The way of one journal's events to one server."""

    def __init__(self, uri: str, runs: Path, *, maybe_known: bool) -> None:
        """Connect to nothing yet.

        Args:
            uri: tracking URI.
            runs: folder that relative artifact paths start from.
            maybe_known: some of it may have been sent before, so look before making a run.
        """
        limit_patience()
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)
        self.maybe_known = maybe_known
        self.run_ids: dict[str, str] = {}  # journal id -> MLflow id
        self.missing: list[Path] = []  # artifacts that were gone when their turn came
        self._runs = runs
        self._deleted: set[str] = set()
        self._experiments: dict[str, str] = {}  # name -> id

    def send(self, event: Event) -> None:
        """Send one event; an error of the client or the server is the caller's to handle."""
        if event["event"] == "open":
            self._open(event)
        elif event["run"] not in self._deleted:
            self._add(event, self.run_ids[event["run"]])

    def link(self, event: Event) -> str:
        """Return where a browser finds a run that was opened; for a database with the command that shows it."""
        place = f"#/experiments/{self._experiments[event['experiment']]}/runs/{self.run_ids[event['run']]}"
        shown = without_password(self.uri)
        if shown.startswith("http"):
            return f"{shown.rstrip('/')}/{place}"
        return f"http://127.0.0.1:5000/{place} after: mlflow server --backend-store-uri {shown} --host 127.0.0.1"

    def _open(self, event: Event) -> None:
        experiment_id = self._experiment(event["experiment"])
        known = self._find(experiment_id, event["run"]) if self.maybe_known else None
        if known is not None and known.info.lifecycle_stage == "deleted":
            self._deleted.add(event["run"])  # somebody wanted it gone
            return
        if known is None:
            tags = event.get("tags", {}) | {JOURNAL_TAG: event["run"]}  # journals of older versions have none
            if event["parent"] is not None and event["parent"] in self.run_ids:
                tags[MLFLOW_PARENT_RUN_ID] = self.run_ids[event["parent"]]
            known = self.client.create_run(experiment_id, event["time"], tags, event["name"])
        self.run_ids[event["run"]] = known.info.run_id

    def _find(self, experiment_id: str, run: str) -> Run | None:
        found = self.client.search_runs([experiment_id], f"tags.`{JOURNAL_TAG}` = '{run}'", ViewType.ALL, 1)
        return found[0] if found else None

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            self._experiments[name] = found.experiment_id if found is not None else self._new_experiment(name)
        return self._experiments[name]

    def _new_experiment(self, name: str) -> str:
        # Without an explicit place, artifacts of a SQLite store land in whatever folder the job was started from.
        kind = name.rpartition("/")[2]
        place = (self._runs.resolve() / "mlartifacts" / kind).as_uri() if self.uri.startswith("sqlite:") else None
        return self.client.create_experiment(name, artifact_location=place)

    def _add(self, event: Event, run_id: str) -> None:
        match event["event"]:
            case "params":
                params = [Param(key, str(value)[:_PARAM_LENGTH]) for key, value in event["params"].items()]
                for first in range(0, len(params), _PARAMS_PER_CALL):
                    self.client.log_batch(run_id, params=params[first : first + _PARAMS_PER_CALL])
            case "metrics":
                metrics = [Metric(key, value, event["time"], event["step"]) for key, value in event["metrics"].items()]
                for first in range(0, len(metrics), _METRICS_PER_CALL):
                    self.client.log_batch(run_id, metrics=metrics[first : first + _METRICS_PER_CALL])
            case "artifact":
                path = self._runs / event["path"]
                if path.is_file():
                    self.client.log_artifact(run_id, str(path), event["folder"])
                else:
                    self.missing.append(path)
            case "close":
                self.client.set_terminated(run_id, event["status"], event["time"])
            case unknown:
                raise ValueError(f"the event {unknown!r} is none that this version knows")


def limit_patience() -> None:
    """Bound how long MLflow's client waits in this process; what the user has set stays."""
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)


def default_uri(runs: Path) -> str:
    """Return the database of a runs folder."""
    return f"sqlite:///{runs.resolve() / 'mlflow.db'}"


def without_password(text: str) -> str:
    """Return a tracking URI, or a text that holds one, as it may be shown and written down."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def one_line(error: BaseException) -> str:
    """Return what an error says, shortened to a line and without passwords."""
    text = without_password(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
