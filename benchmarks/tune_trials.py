"""Measure what a trial of a sweep costs beyond its work: `python benchmarks/tune_trials.py [--quick]`.

The same function, a matrix product of some tens of milliseconds that writes its result as a trial does, is run

    alone                     in a loop, one after the other
    under Tune                one trial each, with and without reuse of the trials' processes
    and recorded in MLflow    a child run with the parameters and numbers of a trial of three epochs, in SQLite

and compared per trial. Starting Ray and its first worker is left out: it is paid once.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray import tune

from ray_jobs import cluster
from ray_jobs.tracking import tracked_run

_EPOCH = {
    name: 0.5 for name in ("total", "recall_occlusion", "recall_face", "face_penalty", "learning_rate", "seconds")
}
_RESULT = {f"number_{place}": 0.5 for place in range(16)}
_PARAMS = {"seed": 0, "name": "all three", "objective.lam": 0.5, "objective.alpha": 10.0}


def work(folder: Path, number: int) -> None:
    """Stand in for a trial."""
    torch.set_num_threads(1)
    matrix = torch.ones(600, 600)
    for _ in range(10):
        matrix = matrix @ matrix / 600
    (folder / f"{number}.json").write_text(json.dumps(_RESULT | {"sum": float(matrix.sum())}))


def alone(folder: Path, trials: int) -> None:
    """Run all trials in a loop."""
    for number in range(trials):
        work(folder, number)


def under_tune(folder: Path, trials: int, *, reuse: bool) -> None:
    """Run every trial as one of Tune's."""

    def trial(drawn: dict[str, Any]) -> None:
        work(folder, drawn["number"])
        tune.report({"done": 1})

    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1.0}),
        param_space={"number": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=1),
        run_config=tune.RunConfig(name=f"bench-{time.monotonic_ns()}", storage_path=str(folder / "tune"), verbose=0),
    )
    tuner.fit()


def recorded(folder: Path, trials: int) -> None:
    """Run all trials in a loop and record each in MLflow."""
    with tracked_run("sweep", "bench", _PARAMS, folder) as parent:
        for number in range(trials):
            work(folder, number)
            with parent.child(str(number), _PARAMS, {"s3pot.trial": str(number)}) as child:
                for epoch in range(3):
                    child.log_metrics(_EPOCH, step=epoch)
                child.log_metrics(_RESULT, step=3)


def seconds_per_trial(run: Callable[[Path, int], None], trials: int) -> float:
    """Return the time of a trial; a first one is not counted, as it imports and makes tables."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(folder, 1)
        started = time.monotonic()
        run(folder, trials)
        return (time.monotonic() - started) / trials


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="What a trial of a sweep costs beyond its work.")
    parser.add_argument("--quick", action="store_true", help="few trials")
    quick = parser.parse_args().quick
    trials, slow = (4, 2) if quick else (40, 10)
    for name in ("ray.tune", "alembic", "mlflow", "s3pot.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)
    cluster.connect()
    bare = seconds_per_trial(alone, trials)
    print(
        f"{'one trial, one after the other':<44}{'ms':>8}{'beyond the work':>18}{'of a trial of 20 s':>20}", flush=True
    )
    rows: list[tuple[str, Callable[[Path, int], None], int]] = [
        ("Tune, processes reused", lambda folder, n: under_tune(folder, n, reuse=True), trials),
        ("Tune, a process for each", lambda folder, n: under_tune(folder, n, reuse=False), slow),
        ("recorded in MLflow (SQLite)", recorded, trials),
    ]
    print(f"{'the function alone':<44}{1000 * bare:>8.1f}")
    costs = {}
    for name, run, number in rows:
        taken = seconds_per_trial(run, number)
        costs[name] = taken - bare
        print(f"{name:<44}{1000 * taken:>8.1f}{1000 * costs[name]:>15.1f} ms{costs[name] / 20:>19.2%}", flush=True)
    reused, fresh = costs["Tune, processes reused"], costs["Tune, a process for each"]
    print(f"reusing processes makes a trial {fresh / max(reused, 1e-6):.0f} times cheaper")


if __name__ == "__main__":
    main()
