"""What becomes known of a sweep's trials while they run: progress, MLflow, and a result for those that left none.

A thread of the driver does the writing: neither the trials nor their scheduling wait for a server. It is the only one
that writes to MLflow as long as it runs.
"""

import contextlib
import logging
import math
import queue
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ray_jobs.progress import Progress
from ray_jobs.sweep_tables import PlannedTrial
from ray_jobs.tracking import TrackedRun
from ray_jobs.train_worker import read_history
from ray_jobs.trial import TABLE, fail_trial, finish_trial, read_result
from s3pot.head.prefix_identity import prefix_description, prefix_identity

_log = logging.getLogger("s3pot.sweep")
_DIED = "its process died: killed, or out of memory"


class _TrialFailed(Exception):
    """Marks the MLflow run of a trial as failed."""


class TrialRecorder:
    """Records the trials of a sweep: those that are done at once, the others as they end.

    Args:
        trials: all trials.
        folder: of the sweep.
        tracked: MLflow run of the sweep.
        tags: of the sweep, which its trials carry too.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        folder: Path,
        tracked: TrackedRun,
        tags: Mapping[str, str],
    ) -> None:
        self.todo = [trial for trial in trials if not trial.is_done(folder)]
        self._trials = {trial.id: trial for trial in trials}
        self._folder, self._tracked, self._tags = folder, tracked, dict(tags)
        self._ended: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._progress = Progress(len(self.todo), "trials", _log)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name="sweep-recorder", daemon=True)

    def ended(self, trial: str) -> None:
        """Note that a trial has ended, however; takes no time."""
        self._ended.put(trial)

    def __enter__(self) -> "TrialRecorder":
        for trial in self.todo:
            # What an earlier attempt left must not be taken for the result of this one.
            shutil.rmtree(trial.folder(self._folder), ignore_errors=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.put(None)
        self._thread.join()
        self._progress.close()
        if self._error is not None and error is None:
            raise self._error

    def _follow(self) -> None:
        try:
            waiting = {trial.id for trial in self.todo}
            for trial in self._trials.values():
                if trial.id not in waiting:
                    self._log_trial(trial, read_result(trial.folder(self._folder)) or {})
            while (ended := self._ended.get()) is not None:
                result = self._result(self._trials[ended])
                self._log_trial(self._trials[ended], result)
                failed = result["status"] != "ok"
                if failed:
                    _log.warning("trial %s (%s): %s", ended, self._trials[ended].cell.label, result["error"])
                self._progress.add(failed=failed)
        except BaseException as error:
            self._error = error  # raised where the sweep waits

    def _result(self, trial: PlannedTrial) -> dict[str, Any]:
        """Return the result of a trial that ended; one that ASHA stopped, or that died, gets it here."""
        folder = trial.folder(self._folder)
        result = read_result(folder)
        if result is not None:
            return result
        if trial.config.evaluate_every and (folder / TABLE).is_file():
            return finish_trial(folder, sum(epoch["seconds"] for epoch in read_history(folder)))
        return fail_trial(folder, _DIED)

    def _log_trial(self, trial: PlannedTrial, result: Mapping[str, Any]) -> None:
        varied = {"seed": trial.seed} | ({"name": trial.cell.name} if trial.cell.name else {}) | trial.cell.values
        prefix = prefix_identity(prefix_description(trial.cell.settings.chain))
        tags = self._tags | {"s3pot.prefix": prefix, "s3pot.trial": trial.id, "s3pot.cell": trial.cell.id}
        with (
            contextlib.suppress(_TrialFailed),
            self._tracked.child(f"{trial.cell.label}, seed {trial.seed}", varied, tags) as child,
        ):
            history = read_history(trial.folder(self._folder))
            for epoch in history:
                child.log_metrics(epoch, step=int(epoch["epoch"]))
            numbers = {name: value for name, value in result.items() if isinstance(value, int | float)}
            numbers["trial_seconds"] = numbers.pop("seconds", math.nan)
            known = history[-1].keys() if history else ()
            child.log_metrics({name: value for name, value in numbers.items() if name not in known}, step=len(history))
            if result.get("status") != "ok":
                raise _TrialFailed
