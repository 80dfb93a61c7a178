"""How Ray Tune runs a fleet: a trial per chunk of images, on actors that are kept from trial to trial.

A new process costs seconds, a trial on a kept one tens of milliseconds. Nothing of what Tune writes is needed
afterwards: trials write their own tables, so that what is done is known whatever becomes of the driver.
"""

import logging
import shutil
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from ray import tune
from ray.tune.experiment import Trial

from ray_jobs import cluster
from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.overfit_trial import overfit_trial
from ray_jobs.progress import Progress

_LONGEST_REASON = 200
"""Characters of the sentence that Ray has to say of a dead process."""


@dataclass(frozen=True)
class LostImage:
    """An image whose trial died.

    Attributes:
        image: its row of the images.
        reason: what the trial died of, in a line.
    """

    image: dict[str, Any]
    reason: str


def run_fleet(
    images: pa.Table, per_trial: int, config: OverfitConfig, folder: Path, progress: Progress
) -> list[LostImage]:
    """Run one trial per chunk of images.

    Args:
        images: of `overfit_trial`.
        per_trial: images of a chunk.
        config: the fleet.
        folder: of the run.
        progress: told of every image that has a row.

    Returns:
        The images of trials that died, which have no row.

    Raises:
        ConfigError: if it needs a GPU and this machine has none.
    """
    # Tune would warn of every trial that it finds no results in its files, and show the traceback of one that died.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    on_gpu = config.device == "cuda"
    cluster.check_gpus(config.gpus_per_trial if on_gpu else 0.0)
    concurrent = config.concurrent or max(1, int(cluster.total("CPU")))
    chunks = [
        {"first": first, "count": min(per_trial, len(images) - first)} for first in range(0, len(images), per_trial)
    ]
    trial = tune.with_parameters(overfit_trial, config=config, folder=str(folder), images=images)
    scratch = folder / f".tune-{time.time_ns()}"
    watch = _Watch(progress)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1.0} | ({"GPU": config.gpus_per_trial} if on_gpu else {})),
        param_space={"chunk": tune.grid_search(chunks)},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=None if on_gpu else min(concurrent, len(chunks)),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(name=scratch.name, storage_path=str(scratch.parent), callbacks=[watch], verbose=0),
    )
    try:
        tuner.fit()
    finally:
        # A fleet goes on from its own tables, never from what Tune wrote.
        shutil.rmtree(scratch, ignore_errors=True)
    return [
        LostImage(image, reason)
        for chunk, reason in watch.died
        for image in images.slice(chunk["first"], chunk["count"]).to_pylist()
    ]


class _Watch(tune.Callback):
    """Follows the trials from the driver; no trial waits for it."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.died: list[tuple[dict[str, Any], str]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune writes its callbacks down for a restore that never comes; a terminal cannot be written down

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Count the images of a chunk."""
        for number in range(result["images"]):
            self.progress.add(failed=number < result["failed"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Remember the chunk of a trial that died."""
        # Not `trial.get_error()`: it looks where the driver's files are copied to later.
        lines = Path(trial.error_file).read_text().strip().splitlines() if trial.error_file else []
        reason = textwrap.shorten(lines[-1], _LONGEST_REASON, placeholder=" ...") if lines else "of an unknown cause"
        self.died.append((trial.config["chunk"], reason))
