"""What a prediction would cost, from a probe of a few of its photographs: the answer of `--dry-run`."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ray_jobs.encode_plan import readable_size, size_of, spread
from ray_jobs.predict_todo import list_photographs, missing
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError
from s3pot.images import ImageError
from s3pot.photo_masks import predict_photographs
from s3pot.prediction_table import PredictionTable
from s3pot.store.back_off import BackOff
from s3pot.store.errors import StoreError

if TYPE_CHECKING:
    from ray_jobs.predict import PredictConfig
    from ray_jobs.predict_stages import PredictWork


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a few photographs took.

    Attributes:
        photographs: how many were tried.
        failed: how many of them failed.
        faces: found per photograph.
        seconds: per photograph, without loading the models.
        bytes: of masks and overlays per photograph.
    """

    photographs: int
    failed: int
    faces: float
    seconds: float
    bytes: float


def plan_prediction(config: "PredictConfig") -> list[str]:
    """Say in a few lines what there is to do and what it takes; what stands in the way is a line, not an error."""
    from ray_jobs.predict import absolute_places, identified

    config = absolute_places(config)
    try:
        items, work = list_photographs(config.input, config.out, config.limit), identified(config)
        todo = missing(items, PredictionTable(config.out), work.writing, check_changed=False)
        done = len(items) - len(todo)
        lines = [f"{len(items):,} photographs ({size_of(items)} to read), {done:,} of them done already"]
        if len(todo):
            lines += _cost(len(todo), probe(work, spread(todo)), config)
        if config.per_image:
            lines.append(f"then at most {config.per_image:,} faces of a head of their own, which this does not count")
        return lines
    except (ImageError, ConfigError, StoreError, WeightsError, OSError) as error:
        return [f"no estimate: {error}"]


def probe(work: "PredictWork", items: Sequence[dict[str, Any]]) -> Probe:
    """Predict some photographs in this process, into a folder that is removed again.

    Raises:
        WeightsError: if models cannot be loaded.
    """
    segmenter, size = work.load(), work.pool.batch_size
    back_off, rows, paces = BackOff(size), [], []
    with tempfile.TemporaryDirectory() as folder:
        writing = replace(work.writing, out=folder)
        for first in range(0, len(items), size):
            batch, started = items[first : first + size], time.perf_counter()
            rows += predict_photographs(segmenter, batch, writing, back_off)
            paces.append((time.perf_counter() - started) / len(batch))
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return Probe(
        photographs=len(items),
        failed=sum(any(row["status"] == "failed" for row in photo) for photo in rows),
        faces=sum(row["face"] > 0 for photo in rows for row in photo) / len(items),
        seconds=float(np.median(paces[1:] or paces)),  # the first batch warms up
        bytes=written / len(items),
    )


def _cost(photographs: int, probed: Probe, config: "PredictConfig") -> list[str]:
    device = config.work.pool.device
    what = f"{device} with {torch.get_num_threads()} threads" if device == "cpu" else device
    failed = f", {probed.failed} failed" if probed.failed else ""
    return [
        f"{photographs:,} to predict, with about {photographs * probed.faces:,.0f} faces; "
        f"{readable_size(photographs * probed.bytes)} to write",
        f"about {photographs * probed.seconds / 3600:.3g} device-hours on {what} (probe of {probed.photographs} "
        f"photographs{failed}: {probed.seconds:.3g} s and {probed.faces:.2g} faces each)",
    ]
