"""Evaluate what predicts on a store: masks and per-image metrics against whatever truth the store's manifest names.

Metrics are computed in the original frame. A failed image stays a row; a face that was not found is a result with an
empty mask [design 5.11-5.13].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from torch import nn

from s3pot.alignment import to_original_frame
from s3pot.head.records import PromptRecord
from s3pot.images import decode_png
from s3pot.metrics import METRIC_COLUMNS, measure_image
from s3pot.metrics.summary import FAILED
from s3pot.parsing.classes import face_mask
from s3pot.prediction import OcclusionPrediction, predict_occlusion
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore, stored_parsing, stored_transform

_BATCH = 16
UNKNOWN_KIND = "unknown"
_ID_COLUMNS = ("id", "path", "status", "error", "kind", "face_id", "cutout_id")
Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTruth:
    """What is known of one image, original frame.

    Attributes:
        occlusion: truth inside R; None when unknown.
        region: face region R; None without clean labels.
    """

    occlusion: Mask | None
    region: Mask | None


def read_truth(row: Any) -> ImageTruth:
    """Read the truth that a manifest row names.

    Raises:
        OSError: if a named file cannot be read.
        ImageError: if it is no PNG.
    """
    return ImageTruth(occlusion=_read_mask(row.truth_path), region=_read_mask(row.region_path))


def _read_mask(path: str | None) -> Mask | None:
    if path is None:
        return None
    return decode_png(Path(path).read_bytes(), path) > 127


Predict = Callable[[Sequence[Any]], Mapping[str, OcclusionPrediction]]
"""From manifest rows with a face to predictions in the aligned frame, by id."""


def evaluate_store(
    store: PromptStore,
    sam: PromptableSam,
    reweighter: nn.Module | None,
    *,
    ids: Sequence[str] | None = None,
    on_mask: Callable[[str, Mask], None] | None = None,
) -> pd.DataFrame:
    """Predict with a head and measure every image of a store.

    Args:
        store: with or without truth.
        sam: decoder.
        reweighter: trained head; None decodes the prompts as they are.
        ids: only these images.
        on_mask: called with id and predicted occlusion (original frame, not clipped to the face).

    Returns:
        One row per image: id, path, status, error, kind, face_id, cutout_id and `METRIC_COLUMNS`.
    """
    predict = head_predictor(store, sam, reweighter)
    return evaluate_with(store, predict, ids=ids, on_mask=on_mask, token_grid=sam.token_grid)


def evaluate_with(
    store: PromptStore,
    predict: Predict,
    *,
    ids: Sequence[str] | None = None,
    on_mask: Callable[[str, Mask], None] | None = None,
    token_grid: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """Predict by any means and measure every image of a store.

    Args:
        store: with or without truth.
        predict: what predicts; a row that it gives nothing for counts as nothing found.
        ids: as in `evaluate_store`.
        on_mask: as in `evaluate_store`.
        token_grid: (h, w) of the stored prompts, where these made the prediction and are to be measured with it.

    Returns:
        As `evaluate_store`.
    """
    rows = store.rows()
    if ids is not None:
        rows = rows[rows["id"].isin(set(ids))]
    measured = []
    for chunk in _chunks(list(rows.itertuples(index=False))):
        predicted = predict([row for row in chunk if row.parsing_png is not None])
        for row in chunk:
            measured.append(measure_row(row, predicted.get(row.id), token_grid, on_mask))
    return per_image_table(measured)


def per_image_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make the table that `evaluate` writes: identity columns and `METRIC_COLUMNS`."""
    return pd.DataFrame(rows, columns=[*_ID_COLUMNS, *METRIC_COLUMNS])


def _chunks(rows: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(rows), _BATCH):
        yield rows[first : first + _BATCH]


def head_predictor(store: PromptStore, sam: PromptableSam, reweighter: nn.Module | None) -> Predict:
    """Return what predicts with a head from stored tokens and prompts."""

    def predict(rows: Sequence[Any]) -> Mapping[str, OcclusionPrediction]:
        stored = store.records({row.id for row in rows})
        by_id: dict[str, PromptRecord] = {stored.ids[place]: stored[place] for place in range(len(stored))}
        prompted = [row for row in rows if row.id in by_id]
        if not prompted:
            return {}
        masks = [face_mask(stored_parsing(row)) for row in prompted]
        predictions = predict_occlusion(sam, reweighter, [by_id[row.id] for row in prompted], masks)
        return {row.id: prediction for row, prediction in zip(prompted, predictions, strict=True)}

    return predict


def measure_row(
    row: Any,
    prediction: OcclusionPrediction | None,
    token_grid: tuple[int, int] | None,
    on_mask: Callable[[str, Mask], None] | None = None,
) -> dict[str, Any]:
    """Measure the prediction for one manifest row in the original frame.

    Args:
        row: manifest row (a named tuple of `PromptStore.rows`).
        prediction: aligned frame; None for a failed image or one without a face.
        token_grid: (h, w) of the prompt ids; None leaves the prompts out.
        on_mask: receives the mask in the original frame.
    """
    result = identity_columns(row)
    if row.status == FAILED:
        return result | dict.fromkeys(METRIC_COLUMNS, np.nan)
    size = (int(row.original_height), int(row.original_width))
    occlusion = face = np.zeros(size, dtype=bool)
    if prediction is not None:
        occlusion = to_original_frame(prediction.probability, stored_transform(row), size) > 0.5
        face = stored_face(row)
    if on_mask is not None:
        on_mask(row.id, occlusion)
    # Prompt ids live on the token grid of the aligned crop: they can be judged only where that is the original frame.
    same_frame = prediction is not None and prediction.probability.shape == size
    score = 0.0 if prediction is None else prediction.score
    grid = token_grid if same_frame else None
    return result | measure_occlusion(row, occlusion, face, score=score, token_grid=grid)


def measure_occlusion(
    row: Any,
    occlusion: Mask,
    face: Mask,
    *,
    score: float | None = None,
    token_grid: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Measure a predicted occlusion of one manifest row; all in the original frame.

    Args:
        row: names the truth.
        occlusion: not clipped to the face.
        face: the predicted face mask.
        score: image-level occlusion score; None = the share of the face that is marked, as a bare mask allows.
        token_grid: (h, w) of the stored prompt ids, to measure these too.
    """
    truth = read_truth(row)
    if score is None:
        score = int((occlusion & face).sum()) / max(1, int(face.sum())) if occlusion.shape == face.shape else np.nan
    return measure_image(
        occlusion,
        face,
        true_occlusion=truth.occlusion,
        true_region=truth.region,
        occlusion_score=score,
        occlusion_prompts=np.asarray(row.occlusion_prompts, dtype=np.int64) if token_grid else None,
        face_prompts=np.asarray(row.face_prompts, dtype=np.int64) if token_grid else None,
        token_grid=token_grid,
    )


def identity_columns(row: Any) -> dict[str, Any]:
    """Return who a manifest row is of; an image without kind is `unknown`, one without face id a face of its own."""
    known: dict[str, Any] = {name: getattr(row, name) for name in _ID_COLUMNS}
    return known | {"kind": known["kind"] or UNKNOWN_KIND, "face_id": known["face_id"] or row.id}


def stored_face(row: Any) -> Mask:
    """Return the predicted face mask of a manifest row, original frame; empty where no face was found."""
    size = (int(row.original_height), int(row.original_width))
    if row.parsing_png is None:
        return np.zeros(size, dtype=bool)
    visible = face_mask(stored_parsing(row)).astype(np.float32)
    return to_original_frame(visible, stored_transform(row), size) > 0.5


def mean_iou(table: pd.DataFrame) -> float:
    """Return the mean IoU (clipped to the predicted face mask) over images with truth; NaN without any."""
    return float(table["iou_face_mask"].mean())


def mask_path(folder: Path, image_id: str) -> Path:
    """Return the file of a predicted mask, `<folder>/masks/<id>.png`.

    Raises:
        ValueError: if the id would lead out of the folder.
    """
    path = folder / "masks" / f"{image_id}.png"
    if not path.resolve().is_relative_to((folder / "masks").resolve()):
        raise ValueError(f"the image id {image_id!r} leads out of {folder}: rename the image")
    return path
