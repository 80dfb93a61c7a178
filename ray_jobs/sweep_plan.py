"""What a sweep would run: the answer of `s3pot sweep --dry-run`."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ray_jobs.sweep_config import SweepConfig, plan_cells
from ray_jobs.sweep_stores import NeededStore, plan_stores, read_images
from ray_jobs.sweep_tables import PlannedTrial
from ray_jobs.sweep_trials import plan_trials
from ray_jobs.train_worker import read_history
from ray_jobs.trial import TrialConfig, run_trial
from s3pot.checkpoints.reading import WeightsError
from s3pot.store.errors import StoreError

_PROBED = 12
"""Images that are tried."""


def describe_sweep(config: SweepConfig) -> list[str]:
    """Say in lines what a sweep runs, which stores it needs and how long it takes.

    Images or weights that are missing are a line; what is wrong with the cells is an error.

    Raises:
        ConfigError: naming every problem of every cell.
    """
    plan = plan_cells(config)
    number = len(list(plan.trials(config.seeds)))
    lines = [f"{len(plan.cells)} cells, {number} trials, on {', '.join(plan.axes) or 'the base alone'}"]
    for cell in plan.cells:
        seeds = ", ".join(str(seed) for seed in cell.seeds(config.seeds))
        mark = " (the others are compared with it)" if cell.id == plan.base else ""
        lines.append(f"  {cell.label}: seeds {seeds}{mark}")
    try:
        train = read_images(config.data, config.train_on, config.train_images)
        evaluate = read_images(config.data, config.evaluate_on, config.evaluate_images)
        stores = plan_stores(config, plan, train, evaluate)
        trials = plan_trials(config, plan, stores, train, evaluate)
        missing = {store.root: store.missing() for store in stores.stores}
        lines.append(
            f"train on {len(train.ids)} images of {train.name}, evaluate on {len(evaluate.ids)} of {evaluate.name}"
        )
        lines += [_describe_store(store, missing[store.root]) for store in stores.stores]
        return [*lines, _estimate(trials, {root for root, images in missing.items() if not images}, config.concurrent)]
    except (OSError, WeightsError, StoreError) as error:
        return [*lines, f"cannot be run yet: {error}"]


def _describe_store(store: NeededStore, missing: int) -> str:
    if not missing:
        return f"store {store.root.name}: there"
    if store.source is None:
        return f"store {store.root.name}: {missing} images to encode"
    return f"store {store.root.name}: {missing} images get other prompts, from the tokens of {store.source.name}"


def _estimate(trials: Sequence[PlannedTrial], ready: set[Path], concurrent: int) -> str:
    """Time a tiny trial on stores that are there, and scale it up."""
    possible = (trial.config for trial in trials if {trial.config.train_store, trial.config.evaluate_store} <= ready)
    probe = next(possible, None)
    if probe is None:
        return "time: known when a trained cell has its stores"
    with tempfile.TemporaryDirectory() as scratch:
        training, evaluation = _probe(probe, Path(scratch))
    seconds = sum(_seconds(trial.config, training, evaluation) for trial in trials)
    workers = concurrent or os.cpu_count() or 1
    return (
        f"time: about {seconds / workers / 60:.0f} min with {workers} trials at once on this machine, making stores "
        f"apart ({1000 * training:.0f} ms per image and epoch, {1000 * evaluation:.0f} ms to evaluate an image)"
    )


def _probe(trial: TrialConfig, scratch: Path) -> tuple[float, float]:
    """Return seconds per image of one epoch of training and of evaluation."""
    tiny = replace(
        trial,
        settings=replace(trial.settings, training=replace(trial.settings.training, epochs=1)),
        train_images=trial.train_images[:_PROBED],
        evaluate_images=trial.evaluate_images[:_PROBED],
        evaluate_every=0,
    )
    result = run_trial(tiny, scratch / "probe")
    training = read_history(scratch / "probe")[0]["seconds"]
    return training / len(tiny.train_images), (result["seconds"] - training) / len(tiny.evaluate_images)


def _seconds(trial: TrialConfig, training: float, evaluation: float) -> float:
    if trial.settings.reweighter == "off":
        return evaluation * len(trial.evaluate_images)
    epochs = trial.settings.training.epochs
    evaluations = epochs if trial.evaluate_every else 1
    return training * epochs * len(trial.train_images) + evaluation * evaluations * len(trial.evaluate_images)
