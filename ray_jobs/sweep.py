"""Ablations and searches with Ray Tune: one short training per setting and seed, compared on the same images.

    s3pot sweep experiments/table3.yaml
    s3pot sweep experiments/table2.yaml seeds='[0]' most_cells=4        (a part of it)

Settings are data [ray_jobs/sweep_config.py]. All of them are checked, and the stores they need are made, before the
first trial starts. Running it again does only what is missing or failed, whatever became of Ray: what counts is which
folders of trials hold a result. A failed trial is a row, the others go on. --dry-run says what would be run.
"""

import json
import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_jobs import cluster
from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.sweep_config import CellPlan, SweepConfig, plan_cells
from ray_jobs.sweep_plan import describe_sweep
from ray_jobs.sweep_record import TrialRecorder
from ray_jobs.sweep_stores import ImageSet, StorePlan, make_stores, plan_stores, read_images
from ray_jobs.sweep_tables import PlannedTrial, trial_table, write_tables
from ray_jobs.sweep_trials import plan_trials, run_trials
from ray_jobs.tracking import TrackedRun, tracked_run
from s3pot.config import to_mapping
from s3pot.head.prefix_identity import prefix_description, prefix_identity

_log = logging.getLogger("s3pot.sweep")


def sweep(config: SweepConfig) -> Path:
    """Run what is missing of a sweep; returns its folder, which holds the tables.

    Raises:
        ConfigError: naming every problem of every cell, before anything starts.
        PartlyFailed: if trials failed; all others have results.
        StoreError: if a store cannot be made.
    """
    config = with_absolute_paths(config)
    plan = plan_cells(config)
    train, evaluate = _image_sets(config)
    stores = plan_stores(config, plan, train, evaluate)
    trials = plan_trials(config, plan, stores, train, evaluate)
    folder = open_run(config.runs, "sweep", _name(config, train, evaluate), config)
    todo = [trial for trial in trials if not trial.is_done(folder)]
    _log.info("%d cells, %d trials, %d of them done", len(plan.cells), len(trials), len(trials) - len(todo))
    results = _Results(config, plan, stores, trials, folder)
    if todo:
        _run(results, (train, evaluate))
    else:
        results.write(0.0)
    _log.info("%s\n%s", folder, (folder / "cells.md").read_text())
    failed = [trial for trial in trials if not trial.is_done(folder)]
    if failed:
        first = trial_table(folder, plan, failed).iloc[0]
        what = f"{first['cell']} {failed[0].cell.label!r}, seed {first['seed']}"
        summary = f"{len(failed)} of {len(trials)} trials failed"
        raise PartlyFailed(f"{summary}, first {first['trial']} of {what}: {first['error']}")
    return folder


def _image_sets(config: SweepConfig) -> tuple[ImageSet, ImageSet]:
    return (
        read_images(config.data, config.train_on, config.train_images),
        read_images(config.data, config.evaluate_on, config.evaluate_images),
    )


def _name(config: SweepConfig, train: ImageSet, evaluate: ImageSet) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in config.title.lower()).split()
    # What is run and on what; where and how fast does not count.
    counted = replace(config, data=Path(), stores=Path(), concurrent=0, gpus_per_trial=0.0)
    return config.name or f"{'-'.join(words[:4])}-{identity(counted, train.identity, evaluate.identity)}"


def _run(results: "_Results", images: tuple[ImageSet, ImageSet]) -> None:
    """Make the stores, run the trials that are missing, and record all of them."""
    config, plan, folder = results.config, results.plan, results.folder
    started = time.monotonic()
    counts = make_stores(results.stores, config)
    made = time.monotonic() - started
    base = next(cell for cell in plan.cells if cell.id == plan.base)
    tags = {
        "s3pot.code": results.code,
        "s3pot.data": "-".join(one.identity for one in images),
        "s3pot.prefix": prefix_identity(prefix_description(base.settings.chain)),
    }
    with tracked_run("sweep", folder.name, to_mapping(config), config.runs, tags=tags) as tracked:
        cluster.connect()
        with TrialRecorder(results.trials, folder, tracked, tags) as recorder:
            run_trials(config, recorder, folder)
        seconds = time.monotonic() - started
        results.write(seconds)
        tracked.log_metrics(
            {"seconds": seconds, "seconds_of_stores": made, "trials": float(len(recorder.todo))}
            | {f"images_{what}": float(number) for what, number in counts.items()}
        )
        _log_results(tracked, folder, figures=config.search is None)
    shutil.rmtree(folder / "tune", ignore_errors=True)


@dataclass(frozen=True)
class _Results:
    """The sweep's folder."""

    config: SweepConfig
    plan: CellPlan
    stores: StorePlan
    trials: list[PlannedTrial]
    folder: Path

    @property
    def code(self) -> str:
        """Version of the code."""
        return str(json.loads((self.folder / "environment.json").read_text())["git"])

    def write(self, seconds: float) -> None:
        """Write the tables and what they are about; `seconds` of this run are added to those of earlier ones."""
        path = self.folder / "sweep.json"
        earlier = json.loads(path.read_text())["seconds"] if path.is_file() else 0.0
        content: dict[str, Any] = {
            "title": self.config.title,
            "axes": list(self.plan.axes),
            "seeds": list(self.config.seeds),
            "base": self.plan.base,
            "metric": self.config.metric,
            "evaluated_on": self.config.evaluate_on,
            "stores": {store.root.name: str(store.root) for store in self.stores.stores},
            "code": self.code,
            "seconds": earlier + seconds,
        }
        write_tables(self.folder, self.plan, self.trials, self.config.metric)
        write_text(path, json.dumps(content, indent=2) + "\n")


def _log_results(tracked: TrackedRun, folder: Path, *, figures: bool) -> None:
    for name in ("cells.parquet", "cells.md", "trials.parquet", "sweep.json", "config.yaml"):
        tracked.log_artifact(folder / name)
    # The samples of a search are points of a space: MLflow's parallel coordinates show them better than names.
    for path in _draw(folder) if figures else []:
        tracked.log_artifact(path, "figures")


def _draw(folder: Path) -> list[Path]:
    """Draw the cells, where any has a result."""
    # Late: drawing takes seconds to import, and most of this job never draws.
    from analysis.figures import draw_cells, write_drawings
    from analysis.sweep_results import read_sweep

    found = read_sweep(folder)
    if not found.cells["mean"].notna().any():
        return []
    return [path for path in write_drawings(draw_cells(found), folder / "figures") if path.suffix == ".png"]


def plan_sweep(config: SweepConfig) -> list[str]:
    """Say what a sweep would run; raises `ConfigError` as `sweep` does."""
    return describe_sweep(with_absolute_paths(config))


SMOKE: dict[str, Any] = {
    "seeds": [0],
    "most_cells": 2,
    "train_images": 2,
    "evaluate_images": 2,
    "base.training.epochs": 1,
}
command = job_command(SweepConfig, sweep, SMOKE, __doc__ or "", plan=plan_sweep)

if __name__ == "__main__":
    # Trials are pickled by reference, and a worker's __main__ is not this file: run the module under its own name.
    from ray_jobs import sweep as job

    run_alone(job.command)
