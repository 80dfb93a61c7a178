"""The one stage of prediction: prefix, head and decoder fused on a Ray Data actor, nothing stored between them.

    ids and paths -> [read, find faces, prefix, head, decoder, write masks] -> table rows

An actor that died has its block done again by another: the same masks are written over those that are there.
"""

import pickle
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch

from ray_jobs.actor_pools import PoolConfig, run_pools
from s3pot.chain import ChainConfig
from s3pot.photo_masks import PhotoWriting, predict_photographs
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import BackOff
from s3pot.store.errors import StoreError


@dataclass(frozen=True, kw_only=True)
class PredictWork:
    """What actors are told; small, for it is sent to each of them.

    Attributes:
        chain: models and stages.
        head: trained head; None = the embedded one.
        abstain: keep silent on faces that score below the threshold of the head.
        writing: what becomes of photographs.
        pool: the actors.
    """

    chain: ChainConfig
    head: Path | None
    abstain: bool
    writing: PhotoWriting
    pool: PoolConfig

    def load(self) -> OcclusionSegmenter:
        """Load the models on the device of the pool.

        Raises:
            WeightsError: if weights are missing or do not fit.
        """
        chain = replace(self.chain, device=self.pool.device)
        return OcclusionSegmenter.load(chain, head=self.head, abstain=self.abstain)


class PredictActor:
    """Gets ids and paths, writes masks, returns rows."""

    def __init__(self, work: PredictWork, threads: int) -> None:
        torch.set_num_threads(threads)
        self.work, self.back_off = work, BackOff(work.pool.batch_size)
        self.segmenter = work.load()

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Predict one batch; returns a row per photograph, its table rows packed."""
        items = batch.to_dict("records")
        try:
            rows = predict_photographs(self.segmenter, items, self.work.writing, self.back_off)
        except StoreError as error:  # nothing of one photograph: the disk is full, or the bucket is gone
            return pd.DataFrame({"image": batch["id"], "rows": b"", "stopped": str(error)})
        return pd.DataFrame({"image": batch["id"], "rows": [pickle.dumps(some, 5) for some in rows], "stopped": ""})


def run_prediction(items: pa.Table, work: PredictWork) -> Generator[tuple[str, list[dict[str, Any]]], None, None]:
    """Predict items on the cluster; yields the id and the table rows of each photograph as it is done.

    Args:
        items: id, path and `fit`, all text.
        work: what to do with them.

    Raises:
        StoreError: if nothing more can be written.
    """
    for row in run_pools(items, [(PredictActor, work.pool)], {"work": work}):
        if row["stopped"]:
            raise StoreError(row["stopped"])
        yield row["image"], pickle.loads(row["rows"])
