"""Workers that screen images: Ray Data hands out ids and paths, rows come back.

A worker that asks keeps several requests under way in threads, for it does nothing but wait; one more process keeps the
pace of all workers together. A worker that scores holds the models.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pyarrow as pa
import ray
import torch

from ray_jobs.actor_pools import PoolConfig, run_pools
from s3pot.chain import ChainConfig
from s3pot.screening.asking import ask_about
from s3pot.screening.chat import Endpoint, EndpointRefused
from s3pot.screening.patience import Pace, Patience, RequestPace
from s3pot.screening.question import Question
from s3pot.screening.rows import FAILED, SCHEMA, Row, new_row
from s3pot.screening.scoring import score_images
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import BackOff, error_text

STOPPED = "stopped"
"""Status of images that were not asked about because no image can do better; no table has it."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What workers that ask are told; see `ScreenConfig`. The key is not among it: it is in their environment."""

    endpoint: Endpoint
    question: Question
    patience: Patience
    requests_per_minute: float
    at_once: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What workers that score are told; see `ScreenConfig`."""

    chain: ChainConfig
    head: Path | None
    pool: PoolConfig


class SharedPace:
    """The pace that a process of its own keeps for all workers."""

    def __init__(self, keeper: Any) -> None:
        self.keeper = keeper

    def reserve(self) -> float:
        """Take the next free place; returns the seconds until it."""
        return float(ray.get(self.keeper.reserve.remote()))

    def hold(self, seconds: float) -> None:
        """Give no place before this time is over."""
        ray.get(self.keeper.hold.remote(seconds))


class AskWorker:
    """Asks about a batch of images, several at once."""

    def __init__(self, work: Asking, pace: Pace, threads: int) -> None:
        cv2.setNumThreads(threads)
        self.work, self.pace = work, pace
        self.waiting = ThreadPoolExecutor(work.at_once)

    def __call__(self, batch: pd.DataFrame) -> pa.Table:
        """Ask about one batch."""
        return pa.Table.from_pylist(list(self.waiting.map(self._ask, batch.to_dict("records"))), schema=SCHEMA)

    def _ask(self, item: dict[str, Any]) -> Row:
        work = self.work
        try:
            key = work.endpoint.api_key()
            return ask_about(item, work.endpoint, work.question, work.patience, self.pace, key=key, seed=work.seed)
        except EndpointRefused as error:
            return new_row(item, status=STOPPED, error=str(error))
        except Exception as error:
            # Whatever one image breaks must not cost the others their answers, which may have been paid for.
            return new_row(item, status=FAILED, error=error_text(error), attempts=0)


class ScoreWorker:
    """Scores a batch of images."""

    def __init__(self, work: Scoring, threads: int) -> None:
        torch.set_num_threads(threads)
        self.faces, self.back_off = work.chain.faces, BackOff(work.pool.batch_size)
        chain = replace(work.chain, device=work.pool.device)
        self.segmenter = OcclusionSegmenter.load(chain, head=work.head, abstain=False)

    def __call__(self, batch: pd.DataFrame) -> pa.Table:
        """Score one batch."""
        rows = score_images(batch.to_dict("records"), self.segmenter, self.faces, self.back_off)
        return pa.Table.from_pylist(rows, schema=SCHEMA)


def run_screening(items: pa.Table, work: Asking | Scoring, pool: PoolConfig) -> Generator[Row, None, None]:
    """Screen items on the cluster; yields the row of each image as its batch is done.

    Args:
        items: id and path, text.
        work: how.
        pool: processes; `batch_size` images at a time.
    """
    if isinstance(work, Scoring):
        yield from run_pools(items, [(ScoreWorker, pool)], {"work": work})
        return
    keeper = ray.remote(RequestPace).options(num_cpus=0).remote(work.requests_per_minute)
    try:
        yield from run_pools(items, [(AskWorker, pool)], {"work": work, "pace": SharedPace(keeper)})
    finally:
        ray.kill(keeper)
