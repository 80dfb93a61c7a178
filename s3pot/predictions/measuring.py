"""Measure anyone's predictions on the images, truth and face masks of a store, exactly as our own are measured."""

from collections.abc import Callable
from typing import Any, Literal, assert_never

import numpy as np
import pandas as pd
from jaxtyping import Bool

from s3pot.evaluation import (
    Mask,
    identity_columns,
    measure_occlusion,
    per_image_table,
    stored_face,
)
from s3pot.metrics import METRIC_COLUMNS
from s3pot.metrics.summary import FAILED
from s3pot.predictions.decoding import read_claim
from s3pot.predictions.full_face import FullFace
from s3pot.predictions.placing import place
from s3pot.predictions.prediction import Prediction
from s3pot.predictions.table import Predictions
from s3pot.store.prompt_store import PromptStore, stored_parsing, stored_transform

MissingPolicy = Literal["error", "empty", "exclude"]
MISSING, EXCLUDED = "missing", "excluded"


def evaluate_predictions(
    store: PromptStore,
    predictions: Predictions,
    *,
    missing: MissingPolicy = "error",
    full_face: FullFace | None = None,
    on_mask: Callable[[str, Mask], None] | None = None,
) -> pd.DataFrame:
    """Measure every image of a store.

    Args:
        store: gives images, truth and the face masks that every method is clipped to.
        predictions: of one method.
        missing: what an image without prediction is: `error` = a failed row that names the file; `empty` = nothing
            predicted, which counts (status `missing`); `exclude` = no part of any mean (status `excluded`). A file
            that is there and cannot be used is always a failed row.
        full_face: for methods that segment the face; None = the store's.
        on_mask: called with id and predicted occlusion (original frame, not clipped to the face).

    Returns:
        As `s3pot.evaluation.evaluate_store`.
    """
    full = full_face or FullFace()
    rows: list[Any] = list(store.rows().itertuples(index=False))
    return per_image_table([_measure(row, predictions.by_id.get(row.id), missing, full, on_mask) for row in rows])


def _measure(
    row: Any,
    prediction: Prediction | None,
    missing: MissingPolicy,
    full_face: FullFace,
    on_mask: Callable[[str, Mask], None] | None,
) -> dict[str, Any]:
    result = identity_columns(row)
    nothing = dict.fromkeys(METRIC_COLUMNS, np.nan)
    if row.status == FAILED:
        return result | nothing
    try:
        if prediction is None:
            raise FileNotFoundError(f"{row.id}: the table holds no prediction")
        occlusion = predicted_occlusion(row, prediction, full_face)
    except FileNotFoundError as error:
        match missing:
            case "error":
                return result | {"status": FAILED, "error": str(error)} | nothing
            case "exclude":
                return result | {"status": EXCLUDED, "error": str(error)} | nothing
            case "empty":
                result |= {"status": MISSING, "error": str(error)}
                occlusion = np.zeros((int(row.original_height), int(row.original_width)), dtype=bool)
            case _:
                assert_never(missing)
    except (OSError, ValueError) as error:
        return result | {"status": FAILED, "error": str(error)} | nothing
    if on_mask is not None:
        on_mask(row.id, occlusion)
    return result | measure_occlusion(row, occlusion, stored_face(row))


def predicted_occlusion(row: Any, prediction: Prediction, full_face: FullFace) -> Bool[np.ndarray, "h w"]:
    """Return the occlusion that a prediction claims, original frame.

    Where a file of a visible face does not reach, nothing was seen, and nothing is called occluded.

    Raises:
        FileNotFoundError: if its file is not there.
        ValueError: if the file cannot be what it is said to be.
    """
    size = (int(row.original_height), int(row.original_width))
    known = row.parsing_png is not None
    if not known and prediction.frame in ("aligned", "model"):
        return np.zeros(size, dtype=bool)  # no face crop that anybody could have been given
    target, reached = place(
        read_claim(prediction),
        prediction,
        size,
        aligned_size=stored_parsing(row).shape if known else None,
        to_original=stored_transform(row) if known else None,
    )
    if prediction.target == "occlusion":
        return target
    return full_face.of(row) & reached & ~target
