"""Measure the per-image fleet against a bare loop and plain trials: `python benchmarks/overfit_fleet.py [--quick]`.

Composites of the astronaut photograph, encoded by the embedded models; without these, drawn faces and random weights,
which cost the same. Everything runs on one actor and one torch thread, so that what scheduling adds is seen. What the
work itself takes is timed where it runs, in the trials; the wall time beyond it is overhead. Beside it
stands the same loop in this process, without Ray. Starting the cluster is measured apart.
"""

import argparse
import io
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray import tune

from ray_jobs import cluster, overfit_fleet
from ray_jobs.overfit import rows_of
from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.overfit_fleet import run_fleet
from ray_jobs.overfit_results import read_rows
from ray_jobs.overfit_trial import overfit_images, overfit_trial
from ray_jobs.progress import Progress
from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig, load_prefix, load_sam
from s3pot.checkpoints.reading import WeightsError
from s3pot.composite.astronaut import astronaut_composites, astronaut_crops
from s3pot.head.per_image import initial_head, overfit_heads
from s3pot.head.training import TrainingConfig, train_head
from s3pot.images import write_png
from s3pot.prefix import FrozenPrefix
from s3pot.sam.promptable import PromptableSam
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import encode_images
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import drawn_prefix, textured_face, write_random_weights

CHAIN = ChainConfig(alignment="none", device="cpu")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        images: of the fleet; also of the largest batch.
        steps: the budget.
        plain_trials: plain trials, an image each.
        empty_trials: trials without work.
        batches: images that are optimised together.
        batch_steps: steps of each image when batches are compared.
    """

    images: int
    steps: int
    plain_trials: int
    empty_trials: int
    batches: tuple[int, ...]
    batch_steps: int


FULL = Sizes(images=24, steps=60, plain_trials=5, empty_trials=100, batches=(2, 4, 8, 24), batch_steps=10)
QUICK = Sizes(images=4, steps=2, plain_trials=2, empty_trials=6, batches=(2, 4), batch_steps=2)


def make_store(folder: Path, images: int) -> PromptStore:
    """Encode so many images into a new store."""
    prefix, pictures = embedded_material(images) if has_weights() else drawn_material(folder, images)
    rows = []
    for number, picture in enumerate(pictures):
        write_png(folder / "pictures" / f"{number:03d}.png", picture)
        rows.append({"id": f"{number:03d}", "path": str(folder / "pictures" / f"{number:03d}.png")})
    store = PromptStore.create(folder / "store", CHAIN)
    store.append(encode_images(prefix, rows, store.root, FaceAligner("none")))
    return store


def has_weights() -> bool:
    """Say whether the embedded models are installed."""
    try:
        load_prefix(CHAIN)
    except WeightsError:
        return False
    return True


def embedded_material(images: int) -> tuple[FrozenPrefix, list[np.ndarray]]:
    """Return the embedded chain and composites of the astronaut."""
    composites = astronaut_composites(astronaut_crops(images), held_out=True)
    return load_prefix(CHAIN), [each.composite.image for each in composites]


def drawn_material(folder: Path, images: int) -> tuple[FrozenPrefix, list[np.ndarray]]:
    """Return a chain with random weights, which everything that is started later uses as well, and drawn faces."""
    os.environ["S3POT_WEIGHTS"] = str(write_random_weights(folder / "weights"))
    return drawn_prefix(sam=load_sam(CHAIN)), [textured_face(number)[0] for number in range(images)]


def timed(work: Callable[[], Any]) -> float:
    """Return how long it took, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def empty_trial(trial: dict[str, Any], *, config: OverfitConfig, folder: str, images: pa.Table) -> None:
    """Do nothing, as a trial of the fleet would."""
    tune.report({"images": 0, "failed": 0})


def time_fleet(images: pa.Table, per_trial: int, config: OverfitConfig, folder: Path) -> float:
    """Run the fleet as the job does, on a progress that nobody sees; returns the seconds of the whole."""
    progress = Progress(len(images) + 1, "images", logging.getLogger("benchmark"), stream=io.StringIO())
    lost: list[Any] = []
    seconds = timed(lambda: lost.extend(run_fleet(images, per_trial, config, folder, progress)))
    assert not lost, lost[0].reason
    return seconds


def time_empty(images: pa.Table, count: int, config: OverfitConfig, folder: Path) -> float:
    """Run a fleet of so many trials without work."""
    many = pa.concat_tables([images] * (1 + count // len(images))).slice(0, count)
    kept = overfit_fleet.overfit_trial
    overfit_fleet.overfit_trial = empty_trial
    try:
        return time_fleet(many, 1, config, folder)
    finally:
        overfit_fleet.overfit_trial = kept


def time_plain(images: pa.Table, config: OverfitConfig, folder: Path) -> float:
    """Run one function trial per image, each in a process of its own, as Tune does unless told otherwise."""
    trial = tune.with_parameters(overfit_trial, config=config, folder=str(folder), images=images)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1.0}),
        param_space={"chunk": tune.grid_search([{"first": first, "count": 1} for first in range(len(images))])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0),
    )
    return timed(tuner.fit)


def work_of(folder: Path) -> float:
    """Return the seconds that the images of a run took by themselves."""
    rows = read_rows(folder)
    assert (rows["status"] != "failed").all(), rows["error"].dropna().iloc[0]
    return float(rows["seconds"].sum())


def compare_scheduling(store: PromptStore, sizes: Sizes, folder: Path) -> None:
    """Measure empty trials, the fleet, plain trials and the bare loop; print what scheduling costs."""
    config = OverfitConfig(store=store.root, steps=sizes.steps, concurrent=1, runs=folder)
    images = rows_of(store, store.records().ids)
    print(f"starting a local Ray cluster: {timed(cluster.connect):.1f} s, once, not counted below", flush=True)
    one = time_empty(images, 1, config, folder / "one")
    trial = (time_empty(images, sizes.empty_trials, config, folder / "many") - one) / (sizes.empty_trials - 1)
    print(f"a fleet of one empty trial: {one:.1f} s, to start its actor; each further trial: {1000 * trial:.0f} ms")

    count, few = len(images), sizes.plain_trials
    wall = time_fleet(images, config.images_per_trial, config, folder / "fleet")
    plain_wall = time_plain(images.slice(0, few), config, folder / "plain")
    sam = store.load_sam("cpu")
    bare = timed(lambda: overfit_images(images.to_pylist(), store, sam, config, folder / "bare", BackOff(1)))

    per_image = bare / count
    ours, plain = (wall - work_of(folder / "fleet")) / count, (plain_wall - work_of(folder / "plain")) / few
    lines = (
        (f"fleet, {config.images_per_trial} images per trial (ours)", wall / count, ours),
        ("the same without starting its actor", (wall - one) / count, ours - one / count),
        ("plain function trial per image", plain_wall / few, plain),
    )
    print(f"{f'{count} images, {sizes.steps} steps, one at a time':<44}{'s/image':>9}{'overhead s':>12}{'share':>8}")
    print(f"{'bare loop, without Ray':<44}{per_image:>9.2f}")
    for name, seconds, overhead in lines:
        print(f"{name:<44}{seconds:>9.2f}{overhead:>12.3f}{overhead / per_image:>8.1%}")
    print(f"wall of the fleet minus that of the bare loop: {(wall - bare) / count:.3f} s per image")
    print(f"overhead: {plain / ours:.1f} times smaller than with plain trials (aim: 10); aim of its share: 20 %")


def compare_batches(store: PromptStore, sizes: Sizes) -> None:
    """Measure heads that are optimised together against a plain training on each image."""
    sam: PromptableSam = store.load_sam("cpu")
    stored = store.records()
    records = [stored[place] for place in range(len(stored))]
    config = replace(OverfitConfig(store=store.root), steps=sizes.batch_steps)
    form = config.head.build(sam.embed_dim)
    training = TrainingConfig(epochs=sizes.batch_steps, batch_size=1, learning_rate=config.learning_rate)

    def plain() -> None:
        for record in records:
            train_head(initial_head(form, 0, record.id), sam, [record], training, config.objective)

    def together(size: int) -> None:
        for first in range(0, len(records), size):
            group = records[first : first + size]
            heads = [initial_head(form, 0, record.id) for record in group]
            overfit_heads(heads, sam, group, config.optimisation, config.objective)

    ways: dict[str, Callable[[], None]] = {"train_head, one image after the other": plain}
    ways |= {f"together={size}": (lambda size=size: together(size)) for size in (1, *sizes.batches)}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(2):  # in turn, so that whatever else the machine does falls on all of them
        for name, way in ways.items():
            best[name] = min(best[name], timed(way))
    image_steps = len(records) * sizes.batch_steps
    sequential = best["train_head, one image after the other"]
    print(f"{f'{len(records)} images, one thread, {sam.device}':<44}{'ms/image and step':>18}{'ratio':>8}")
    for name, seconds in best.items():
        print(f"{name:<44}{1000 * seconds / image_steps:>18.1f}{sequential / seconds:>8.2f}", flush=True)


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description="The per-image fleet against a bare loop and plain trials.")
    parser.add_argument("--quick", action="store_true", help="few images and steps")
    sizes = QUICK if parser.parse_args().quick else FULL
    logging.disable(logging.WARNING)
    os.environ.pop("RAY_ADDRESS", None)  # a cluster of its own
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    torch.set_num_threads(1)
    print(f"load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name), sizes.images)
        compare_batches(store, sizes)
        compare_scheduling(store, sizes, Path(name))
        ray.shutdown()  # before its files go


if __name__ == "__main__":
    main()
