"""MLflow as the jobs use it: one experiment per kind of job, one writer, children really nested.

Only the driver of a job writes. Workers return numbers and files; per-image numbers go up as one Parquet table.
`MLFLOW_TRACKING_URI` is respected; without it everything goes to `<runs>/mlflow.db` (SQLite) with artifacts beside it.

Everything is written to the run's journal first [ray_jobs/journal.py]. A server that cannot be reached, or refuses,
costs the run a wait of at most LONGEST_WAIT seconds now and then: it is tried again later and at the end, and what is
missing then `s3pot sync` uploads.
"""

import logging
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from ray_jobs.journal import Event, Journal, milliseconds, new_journal, place_below
from ray_jobs.mlflow_upload import Upload, default_uri, one_line, without_password

_log = logging.getLogger("s3pot.tracking")

# A server that was away is tried again after this time; when finding out took long, so late that it costs 5 % at most.
_RETRY_SECONDS, _RETRY_FACTOR = 60.0, 20.0


class _Writer:
    """Writes events to the journal, and to the server as long as it answers."""

    def __init__(self, journal: Journal, uri: str, runs: Path, experiment: str) -> None:
        self.journal, self.runs, self.experiment = journal, runs, experiment
        self.destination = None if uri == default_uri(runs) else without_password(uri)
        self.upload = Upload(uri, runs, maybe_known=False)
        self.waiting: deque[Event] = deque()
        self._retry_at = 0.0
        self._warned = False

    def write(self, event: Event) -> None:
        self.journal.append(event)
        self.waiting.append(event)
        if time.monotonic() >= self._retry_at:
            self.send_waiting()

    def send_waiting(self) -> None:
        started = time.monotonic()
        try:
            while self.waiting:
                self.upload.send(self.waiting[0])
                self.waiting.popleft()
        except Exception as error:
            # Whatever a client, a database driver or a storage library raises: results are on disk, the run goes on.
            now = time.monotonic()
            self._retry_at = now + max(_RETRY_SECONDS, _RETRY_FACTOR * (now - started))
            if not self._warned:
                _log.warning("MLflow at %s: %s; the run goes on", without_password(self.upload.uri), one_line(error))
            self._warned = True
        finally:
            # Of what still waits, the first may have arrived: perhaps only the answer got lost.
            self.upload.maybe_known = self.upload.maybe_known or bool(self.waiting)

    def finish(self, last_try: bool) -> None:
        """Say in the journal, or to the user, whether all has arrived."""
        if self.waiting and last_try:
            self.send_waiting()
        if self.waiting:
            _log.warning("not all of %s is in MLflow: `s3pot sync %s` uploads it", self.journal.path, self.runs)
        else:
            self.journal.append({"event": "uploaded", "to": self.destination})
        for path in self.upload.missing:
            _log.warning("%s was removed before it could be uploaded", path)


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run, open for writing."""

    key: str
    _writer: _Writer

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None as long as the server was not reached."""
        return self._writer.upload.run_ids.get(self.key)

    @property
    def client(self) -> MlflowClient:
        """Client of the server, for what is not logged through this class; its errors are the caller's."""
        return self._writer.upload.client

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers of one step in one call; NaN is skipped (SQLite stores it as 0)."""
        numbers = {name: float(value) for name, value in metrics.items() if value == value}
        if numbers:
            event = {"event": "metrics", "run": self.key, "time": milliseconds(), "step": step, "metrics": numbers}
            self._writer.write(event)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts.

        Raises:
            FileNotFoundError: if it is not there.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file to log")
        place = place_below(self._writer.runs, path)
        self._writer.write({"event": "artifact", "run": self.key, "path": place, "folder": folder})

    @contextmanager
    def child(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> Iterator["TrackedRun"]:
        """Open a run nested below this one."""
        with _run(self._writer, name, params, tags or {}, parent=self.key) as run:
            yield run


@contextmanager
def tracked_run(
    kind: str,
    name: str,
    params: Mapping[str, Any],
    runs: Path,
    folder: Path | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[TrackedRun]:
    """Open a run in the experiment `s3pot/<kind>`; it ends as FAILED when the block raises, as KILLED when interrupted.

    Args:
        kind: kind of job, e.g. "train".
        name: shown in the MLflow list.
        params: nested mappings are flattened to dotted keys.
        runs: folder of all results, home of the default database.
        folder: of this run, below `runs`; `<runs>/<kind>/<name>` unless given.
        tags: what the run can be found by, beside its parameters.
    """
    runs = Path(os.path.abspath(runs))
    with new_journal(folder or runs / kind / name) as journal:
        writer = _Writer(journal, tracking_uri(runs), runs, f"s3pot/{kind}")
        last_try = True
        try:
            with _run(writer, name, params, tags or {}, parent=None) as run:
                yield run
        except (KeyboardInterrupt, SystemExit):
            last_try = False  # who interrupts does not want to wait for a server
            raise
        finally:
            writer.finish(last_try)


def tracking_uri(runs: Path) -> str:
    """Return `MLFLOW_TRACKING_URI`, or the SQLite database below `runs`."""
    configured = os.environ.get("MLFLOW_TRACKING_URI")
    if configured:
        return configured
    runs.mkdir(parents=True, exist_ok=True)
    return default_uri(runs)


@contextmanager
def _run(
    writer: _Writer, name: str, params: Mapping[str, Any], tags: Mapping[str, str], parent: str | None
) -> Iterator[TrackedRun]:
    run = TrackedRun(uuid.uuid4().hex, writer)
    opened = {"event": "open", "run": run.key, "parent": parent, "experiment": writer.experiment, "name": name}
    writer.write(opened | {"time": milliseconds(), "uri": writer.destination, "tags": dict(tags)})
    if parent is None and run.run_id is not None:
        _log.info("MLflow: %s", writer.upload.link(opened))
    writer.write({"event": "params", "run": run.key, "params": {key: str(value) for key, value in _flatten(params)}})
    status = "FINISHED"
    try:
        yield run
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except BaseException:
        status = "FAILED"
        raise
    finally:
        writer.write({"event": "close", "run": run.key, "time": milliseconds(), "status": status})


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
