"""Running the trials of a sweep under Ray Tune, which only schedules: results are in the trials' own folders."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from ray_jobs import cluster
from ray_jobs.sweep_config import CellPlan, SweepConfig
from ray_jobs.sweep_record import TrialRecorder
from ray_jobs.sweep_stores import ImageSet, StorePlan
from ray_jobs.sweep_tables import PlannedTrial
from ray_jobs.trial import TrialConfig, TrialSettings, attempt_trial
from s3pot.chain import chain_identity
from s3pot.config import to_mapping

_METRIC, _EPOCH = "iou_face_mask", "training_iteration"


def plan_trials(
    config: SweepConfig, plan: CellPlan, stores: StorePlan, train: ImageSet, evaluate: ImageSet
) -> list[PlannedTrial]:
    """Return all trials of a sweep, in the order of the grid."""
    trials = []
    for cell, seed, settings in plan.trials(config.seeds):
        trains = settings.reweighter == "on"
        trial = TrialConfig(
            settings=settings,
            train_store=stores.root(train, settings.chain) if trains else None,
            evaluate_store=stores.root(evaluate, settings.chain),
            train_images=train.ids if trains else (),
            evaluate_images=evaluate.ids,
            evaluate_every=1 if config.search is not None and trains else 0,
            gpu=config.gpus_per_trial > 0,
        )
        inputs = (train.identity, evaluate.identity, chain_identity(settings.chain))
        trials.append(PlannedTrial(id=_trial_id(trial, inputs), cell=cell, seed=seed, config=trial))
    return trials


def _trial_id(trial: TrialConfig, inputs: tuple[str, ...]) -> str:
    # What is done and to what, wherever the stores lie.
    content = [_counted(trial.settings), trial.evaluate_every, *inputs]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _counted(settings: TrialSettings) -> dict[str, Any]:
    mapping = to_mapping(settings)
    del mapping["chain"]["device"]
    return mapping


def run_trials(config: SweepConfig, recorder: TrialRecorder, folder: Path) -> None:
    """Run the trials that are missing."""
    todo = recorder.todo
    if not todo:
        return
    on_gpu = config.gpus_per_trial > 0
    cluster.check_gpus(config.gpus_per_trial)
    resources = {"CPU": 1.0} | ({"GPU": config.gpus_per_trial} if on_gpu else {})
    shared = {"trials": {trial.id: trial.config for trial in todo}, "folder": str(folder)}
    concurrent = config.concurrent or (0 if on_gpu else max(1, int(cluster.total("CPU"))))
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_run_one, **shared), resources),
        param_space={"trial": tune.grid_search([trial.id for trial in todo])},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=min(concurrent, len(todo)) or None,
            scheduler=_scheduler(config),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=f"tune-{int(time.time())}",
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[_Listener(recorder.ended)],
        ),
    )
    # Results are in our own tables; Tune would warn of every trial that it finds none in its files.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    tuner.fit()


def _scheduler(config: SweepConfig) -> TrialScheduler | None:
    if config.search is None:
        return None
    epochs = config.base.training.epochs
    grace = min(config.search.grace_epochs, epochs)
    return ASHAScheduler(
        time_attr=_EPOCH,
        metric=_METRIC,
        mode="max",
        max_t=epochs,
        grace_period=grace,
        reduction_factor=config.search.reduction,
    )


class _Listener(tune.Callback):
    """Tells the recorder which trial has ended, however."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into files that nobody reads here.
        return {}

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note a trial that ended by itself, or was stopped by the scheduler."""
        self._ended(trial.config["trial"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note a trial whose process died."""
        self._ended(trial.config["trial"])


def _run_one(drawn: dict[str, Any], *, trials: dict[str, TrialConfig], folder: str) -> None:
    config = trials[drawn["trial"]]
    place = Path(folder) / "trials" / drawn["trial"]
    if config.evaluate_every:
        # Every epoch is reported, so that ASHA can stop the trial there.
        attempt_trial(config, place, lambda epoch: tune.report({_METRIC: epoch[_METRIC]}))
    else:
        attempt_trial(config, place)
        tune.report({"done": 1})
