"""Which masks somebody should look at first, without knowing the truth.

A head keeps silent below an image-level score t [design 5.12]; nobody can say less about a picture than where its score
lies there. The uncertainty is -|log(score / t)|: 0 at the threshold, the lower the surer. A score of 0, nothing found
at all, is certain. Any other column of the per-image table can be named instead, largest first.
"""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float64

SCORE = "occlusion_score"


def uncertainty(table: pd.DataFrame, threshold: float, column: str | None = None) -> Float64[np.ndarray, " n"]:
    """Return how uncertain each row is, larger = less certain; -inf for certain and for unknown.

    Args:
        table: per-image table of an evaluation.
        threshold: image-level score below which the head keeps silent, above 0.
        column: take this column as it is instead.

    Raises:
        ValueError: if the column is missing or holds no numbers, or the threshold is not above 0.
    """
    name = column or SCORE
    if name not in table.columns:
        raise ValueError(f"the per-image table has no column {name}, only {', '.join(table.columns)}")
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    if len(values) and np.isnan(values).all():
        raise ValueError(f"the column {name} holds no number")
    if column is not None:
        return np.where(np.isnan(values), -np.inf, values)
    if not (threshold > 0 and math.isfinite(threshold)):
        raise ValueError(f"the threshold must be above 0, got {threshold}: this head has none, name one")
    known = values > 0
    return np.where(known, -np.abs(np.log(np.where(known, values, 1.0) / threshold)), -np.inf)
