"""What a trial of `overfit` does: overfit the images of its chunk, measure them before and after, write one table.

    <run>/parts/<hash of the ids>.parquet    a row per image, its curves included; written whole or not at all
    <run>/masks/<id>.png                     written before the row is
    <run>/heads/<id>.safetensors             if heads are kept

The same chunk writes the same file, so that a trial may be done twice. Actors serve many trials and keep the SAM.
"""

import math
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ray import tune

from ray_jobs.evaluate import MaskWriter
from ray_jobs.overfit_config import OverfitConfig
from s3pot.evaluation import mask_path, measure_row
from s3pot.head.head_file import load_reweighter, save_head
from s3pot.head.per_image import CURVES, Overfitted, initial_head, overfit_heads
from s3pot.head.records import PromptRecord
from s3pot.head.reweighter import PromptReweighter
from s3pot.metrics import METRIC_COLUMNS
from s3pot.metrics.summary import FAILED
from s3pot.parsing.classes import face_mask
from s3pot.prediction import predict_occlusion
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import derive_seed
from s3pot.store.atomic_files import write_file
from s3pot.store.back_off import BackOff, error_text
from s3pot.store.prompt_store import PromptStore, StoredRecords, stored_parsing

STORE_COLUMNS = (
    *("id", "path", "status", "error", "shard", "row", "original_height", "original_width", "to_original"),
    *("occlusion_prompts", "face_prompts", "parsing_png", "truth_path", "region_path"),
    *("kind", "face_id", "cutout_id"),
)
"""What a trial needs to know of an image, besides its tokens: columns of the store's manifest."""
CURVE_COLUMNS = tuple(f"curve_{name}" for name in CURVES)
_TEXTS = ("id", "path", "status", "error", "traceback", "kind", "face_id", "cutout_id", "start", "stopped")
_NUMBERS = ("iou_before", *METRIC_COLUMNS, "objective_before", "objective_after", "steps", "seconds")
ROW_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.float64()) for name in _NUMBERS),
        *((name, pa.list_(pa.float64())) for name in CURVE_COLUMNS),
    ]
)
"""Of the rows that trials write."""


def overfit_trial(trial: dict[str, Any], *, config: OverfitConfig, folder: str, images: pa.Table) -> None:
    """Overfit a chunk; a failing image is a row and does not take the others along.

    Args:
        trial: `chunk`, with its place among the images, `first` and `count`.
        config: the fleet.
        folder: of the run.
        images: `STORE_COLUMNS` of all images that are to be done.
    """
    if config.device == "cpu":
        torch.set_num_threads(1)
    store, sam, back_off = _kept_in_actor(config.store, config.device, config.together)
    chunk = images.slice(trial["chunk"]["first"], trial["chunk"]["count"]).to_pylist()
    rows = overfit_images(chunk, store, sam, config, Path(folder), back_off)
    write_part(Path(folder), rows)
    tune.report({"images": len(rows), "failed": sum(row["status"] == FAILED for row in rows)})


@lru_cache(maxsize=1)
def _kept_in_actor(store_root: Path, device: str, together: int) -> tuple[PromptStore, PromptableSam, BackOff]:
    # An actor serves many trials: it loads the SAM once, and learns once how many images fit into memory.
    store = PromptStore(store_root)
    return store, store.load_sam(device), BackOff(together)


def overfit_images(
    images: Sequence[dict[str, Any]],
    store: PromptStore,
    sam: PromptableSam,
    config: OverfitConfig,
    folder: Path,
    back_off: BackOff,
) -> list[dict[str, Any]]:
    """Overfit images, some at a time, and write masks and heads; a row per image, in order.

    A group that fails, for one image or because it does not fit into memory, is done again in halves.

    Args:
        images: `STORE_COLUMNS` of each.
        store: where their tokens are.
        sam: that made these.
        config: the fleet.
        folder: of the run.
        back_off: knows how many images go together.
    """
    failed: dict[str, dict[str, Any]] = {}

    def fail(image: dict[str, Any], error: Exception) -> None:
        failed[image["id"]] = failed_row(image, error_text(error), "".join(traceback.format_exception(error)))

    work = _Work(store, sam, config, folder)
    done = {image["id"]: row for image, row in back_off.run(work.overfit, images, fail)}
    return [done.get(image["id"]) or failed[image["id"]] for image in images]


def failed_row(image: dict[str, Any], error: str, trace: str | None = None) -> dict[str, Any]:
    """Return the row of an image that failed."""
    known = {name: image[name] for name in ("id", "path", "kind", "face_id", "cutout_id")}
    return dict.fromkeys(_NUMBERS, math.nan) | known | {"status": FAILED, "error": error, "traceback": trace}


def write_part(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows of a chunk.

    Raises:
        StoreError: if they cannot be written, the disk being full above all.
    """
    sink = pa.BufferOutputStream()
    # Every part has every column, whatever became of its images, so that all of them read alike.
    pq.write_table(pa.Table.from_pylist(list(rows), schema=ROW_SCHEMA), sink)
    name = derive_seed(0, "part", "|".join(row["id"] for row in rows))
    write_file(folder / "parts", f"{name:016x}.parquet", sink.getvalue().to_pybytes())


def head_path(folder: Path, image_id: str) -> Path:
    """Return where the head of an image is kept."""
    return folder / "heads" / f"{image_id}.safetensors"


@dataclass(frozen=True)
class _Work:
    """What stays the same from group to group."""

    store: PromptStore
    sam: PromptableSam
    config: OverfitConfig
    folder: Path

    def overfit(self, images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Overfit a group together.

        What may be wrong with an image comes to light before the optimisation, which is what takes time.
        """
        group = [_Image(image, self) for image in images]
        started = time.monotonic()
        results = overfit_heads(
            [image.head for image in group],
            self.sam,
            [image.record for image in group],
            self.config.optimisation,
            self.config.objective,
        )
        seconds = (time.monotonic() - started) / len(group)
        return [image.row(result, seconds) for image, result in zip(group, results, strict=True)]

    def first_head(self, image_id: str) -> PromptReweighter:
        if self.config.start_from is not None:
            return load_reweighter(self.config.start_from, self.sam.device).requires_grad_(True)
        return initial_head(self.config.head.build(self.sam.embed_dim), self.config.seed, image_id).to(self.sam.device)


class _Image:
    """One image of a group: read, and measured with the head it starts from."""

    def __init__(self, image: dict[str, Any], work: _Work) -> None:
        started = time.monotonic()
        self.image, self.work = image, work
        self.known = SimpleNamespace(**image)
        mask_path(work.folder, image["id"])  # an id that cannot be a file is refused
        self.record: PromptRecord = StoredRecords(work.store.shard_file, pd.DataFrame([image]))[0]
        self.face = face_mask(stored_parsing(self.known))
        self.head = work.first_head(image["id"])
        self.iou_before = self._measure(None)["iou_face_mask"]
        self.seconds = time.monotonic() - started

    def row(self, result: Overfitted, seconds: float) -> dict[str, Any]:
        """Measure and write what came of it.

        Args:
            result: of the optimisation.
            seconds: this image's share of it.
        """
        totals = result.curves["total"]
        if result.stopped == "not_finite":
            error = f"the objective is not finite after {result.steps} steps ({totals[-1]}): lower the learning rate?"
            return failed_row(self.image, error)
        started, work = time.monotonic(), self.work
        after = self._measure(MaskWriter(work.folder))
        if work.config.keep_heads:
            metadata = {
                "store": work.store.description["identity"],
                "image": self.record.id,
                "steps": str(result.steps),
            }
            save_head(self.head, head_path(work.folder, self.record.id), work.store.chain, metadata)
        curves = {f"curve_{name}": list(result.curves[name]) for name in CURVES}
        return (
            after
            | curves
            | {
                "iou_before": self.iou_before,
                "objective_before": totals[0],
                "objective_after": totals[-1],
                "steps": float(result.steps),
                "stopped": result.stopped,
                "start": "scratch" if work.config.start_from is None else "head",
                "seconds": self.seconds + seconds + time.monotonic() - started,
            }
        )

    def _measure(self, on_mask: MaskWriter | None) -> dict[str, Any]:
        sam = self.work.sam
        [prediction] = predict_occlusion(sam, self.head.eval(), [self.record], [self.face])
        return measure_row(self.known, prediction, sam.token_grid, on_mask)
