"""The table of a screening: one row per image, whatever became of it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from s3pot.places import shown_place

ANSWERED, UNPARSED, FAILED = "ok", "unparsed", "failed"
"""Status of an image that has a label; whose answer is not of the form asked for; that could not be read or asked."""
OCCLUDED, FREE, NO_FACE = "occluded", "free", "no_face"
"""Labels that our own score gives."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("path", pa.string()),
        ("status", pa.string()),
        ("label", pa.string()),  # null unless the status is "ok"
        ("reason", pa.string()),
        ("answer", pa.string()),  # what the model said, word for word
        ("score", pa.float64()),  # our own score, in [0, 1]; null where there was no face, or a model was asked
        ("error", pa.string()),
        ("attempts", pa.int32()),
        ("seconds", pa.float64()),  # waiting included
        ("prompt_tokens", pa.int64()),  # of the attempt that was answered, as the server counts
        ("completion_tokens", pa.int64()),
    ]
)
Row = dict[str, Any]


def new_row(item: Mapping[str, Any], **known: Any) -> Row:
    """Return a row of an image: null except for what is known."""
    return dict.fromkeys(SCHEMA.names) | {"id": item["id"], "path": shown_place(item["path"])} | known


def as_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows as a table; of rows of one image the last counts. Numbers that may be absent stay so."""
    latest = {row["id"]: row for row in rows}
    return pa.Table.from_pylist(list(latest.values()), schema=SCHEMA).to_pandas(types_mapper=_NULLABLE.get)


_NULLABLE = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}


def label_by_score(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Label images by our own score, with the comparison as the reason.

    Args:
        table: rows of `SCHEMA`.
        threshold: an image is occluded from this score on, and never with a score of 0.
    """
    scores = table["score"].to_numpy(dtype=np.float64, na_value=np.nan)
    labelled = [
        _labelled(float(score), threshold) if status == ANSWERED else (None, None)
        for status, score in zip(table["status"], scores, strict=True)
    ]
    found = pd.DataFrame(labelled, columns=["label", "reason"], index=table.index, dtype=object)
    return table.assign(label=found["label"], reason=found["reason"])


def _labelled(score: float, threshold: float) -> tuple[str, str]:
    if math.isnan(score):
        return NO_FACE, "no face was found"
    label = OCCLUDED if score > 0.0 and score >= threshold else FREE
    return label, f"score {score:.4f}, occluded from {threshold:.4f} on"


def choose(items: pd.DataFrame, table: pd.DataFrame, labels: Iterable[str]) -> pd.DataFrame:
    """Return the images with one of these labels, as a manifest that can be encoded.

    Args:
        items: what was screened: `id`, absolute `path`, and whatever else its manifest says.
        table: rows of `SCHEMA`.
        labels: that are wanted.

    Returns:
        The rows of `items`, in order, with `label`, `reason` and `score` of the screening.
    """
    wanted = table[(table["status"] == ANSWERED) & table["label"].isin(list(labels))]
    found = wanted[["id", "label", "reason", "score"]]
    kept = items.drop(columns=["label", "reason", "score"], errors="ignore")
    kept = kept.assign(id=kept["id"].map(str))
    return kept.merge(found, on="id", how="inner", validate="one_to_one")
