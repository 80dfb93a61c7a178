"""Measure the prediction job against a bare loop of the same models: `python benchmarks/predict_throughput.py`.

The bare loop is what the README shows for one image, over many: read, predict, write the mask. Models are tiny ones
with random weights (64 px SAM, a smoothing for a generator) on one torch thread per process, so that what the job adds
is seen; one face per photograph of 256 px. Rates are of the steady state: from the first batch of every actor to the
last result, without starting Ray and loading models. Memory is the proportional set size of this process and all it
started, which includes the object store.
"""

import argparse
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import ray
import torch
from encode_throughput import BATCH, manifest_of, peak_memory, tiny_prefix

from ray_jobs import predict_stages
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode_inputs import as_table
from ray_jobs.predict_stages import PredictActor, PredictWork, run_prediction
from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig
from s3pot.images import read_image, write_png
from s3pot.photo_masks import PhotoWriting
from s3pot.prediction_table import PredictionTable, TableWriter
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import BackOff
from tests.stand_ins import small_reweighter


def tiny_segmenter() -> OcclusionSegmenter:
    """Return a segmenter that takes about 20 ms per photograph on one thread."""
    return OcclusionSegmenter(tiny_prefix(), small_reweighter(trained_looking=True), FaceAligner("none"))


class TinyPredictActor(PredictActor):
    """The actor with tiny models."""

    def __init__(self, work: PredictWork, threads: int) -> None:
        self.work, self.back_off, self.segmenter = work, BackOff(BATCH), tiny_segmenter()


def job_rate(items: pd.DataFrame, actors: int) -> float:
    """Predict as the job does, into a new folder; returns photographs per second of the steady state."""
    with tempfile.TemporaryDirectory() as folder:
        work = PredictWork(
            chain=ChainConfig(alignment="none"),
            head=None,
            abstain=True,
            writing=PhotoWriting(out=folder, identity="tiny", faces="main"),
            pool=PoolConfig(batch_size=BATCH, actors=actors),
        )
        table = PredictionTable(folder)
        writer, times = TableWriter(table), []
        for image, rows in run_prediction(as_table(items), work):
            assert rows[0]["error"] is None, rows
            writer.add(image, rows)
            times.append(time.perf_counter())
        writer.flush()
        table.merge()
        assert len(table.rows(["status"])) == len(items)
        return _steady(times, actors)


def bare_rate(items: pd.DataFrame) -> float:
    """Predict in this process, one batch after the other; returns photographs per second."""
    segmenter, paths, times = tiny_segmenter(), items["path"].tolist(), []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, len(paths), BATCH):
            pictures = [read_image(path) for path in paths[first : first + BATCH]]
            for place, [result] in enumerate(segmenter.predict_batch(pictures), start=first):
                write_png(Path(folder) / f"{place}.png", result.occlusion.astype(np.uint8) * 255)
            times += [time.perf_counter()] * len(pictures)
    return _steady(times, 1)


def _steady(times: list[float], actors: int) -> float:
    warm_up = actors * BATCH
    return (len(times) - warm_up) / (times[-1] - times[warm_up - 1])


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description="The prediction job against a bare loop.")
    parser.add_argument("--quick", action="store_true", help="few photographs")
    quick = parser.parse_args().quick
    few, many, rounds = (64, 128, 1) if quick else (504, 5040, 2)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    predict_stages.PredictActor = TinyPredictActor  # type: ignore[misc]
    load = os.getloadavg()[0]
    here = Path(__file__).resolve().parent
    # The workers import the tiny models from the other benchmark.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here), os.environ.get("PYTHONPATH", "")])
    # A cluster of its own: another that runs on this machine would be neither seen nor counted.
    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    with tempfile.TemporaryDirectory() as name:
        folder, peaks = Path(name), []
        for photographs in (few, many):
            with peak_memory() as peak:
                job_rate(manifest_of(folder, photographs), 1)
            peaks.append(peak[0])
            print(f"{photographs:>5} photographs: {peak[0]:.0f} MB at most, all processes and the object store")
        print(f"{many // few} times the photographs take {peaks[1] / peaks[0]:.2f} times the memory", flush=True)
        items = manifest_of(folder, few)
        ways: dict[str, Callable[[], float]] = {
            "bare loop, 1 process": lambda: bare_rate(items),
            "job, 1 actor": lambda: job_rate(items, 1),
            "job, 2 actors": lambda: job_rate(items, 2),
        }
        # In turn, best of rounds: whatever else the machine does falls on all of them.
        rates = dict.fromkeys(ways, 0.0)
        for _, way in itertools.product(range(rounds), ways):
            rates[way] = max(rates[way], ways[way]())
        print(f"{f'{few} photographs, one thread each':<34}{'per second':>11}   (load before: {load:.1f})")
        for way, rate in rates.items():
            print(f"{way:<34}{rate:>11.1f}")
        bare, one, two = rates.values()
        print(f"one actor has {one / bare:.2f} times the throughput of the bare loop")
        print(f"2 actors are {two / one:.2f} times as fast as 1")
    ray.shutdown()


if __name__ == "__main__":
    main()
