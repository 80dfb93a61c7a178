"""Threshold selectors, the alternatives to matching: a fixed threshold and Otsu's per image [S3POT §4.2, Tab. 2].

A face token whose similarity to the reference token at the same place lies below the threshold becomes an occlusion
prompt, every other face token a face prompt.

Legend: t tokens of one image's full grid.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_OTSU_BINS = 256


def threshold_prompts(
    similarity: Float[Tensor, " t"], face_tokens: Bool[Tensor, " t"], tau: float
) -> tuple[Int64[Tensor, " o"], Int64[Tensor, " n"]]:
    """Split the face tokens at a fixed similarity.

    Args:
        similarity: Place-wise similarity of image and reference tokens.
        face_tokens: M_f on the token grid, without padding.
        tau: Threshold; the paper uses 0.5.

    Returns:
        Occlusion prompts (below tau) and face prompts (the rest), sorted full-grid ids.

    Raises:
        ValueError: When the similarity of a face token is not finite.
    """
    if not bool(similarity[face_tokens].isfinite().all()):
        raise ValueError("similarity of face tokens must be finite, got NaN or infinity")
    below = similarity < tau
    return (face_tokens & below).nonzero().flatten(), (face_tokens & ~below).nonzero().flatten()


def otsu_prompts(
    similarity: Float[Tensor, " t"], face_tokens: Bool[Tensor, " t"]
) -> tuple[Int64[Tensor, " o"], Int64[Tensor, " n"]]:
    """Split the face tokens at Otsu's threshold of their own similarities; all equal means no occlusion prompt.

    Args and returns as for `threshold_prompts`.
    """
    if not bool(face_tokens.any()):
        return threshold_prompts(similarity, face_tokens, 0.0)
    # In float64, where the threshold lives: float32 would round it, and a value equal to it would change sides.
    return threshold_prompts(similarity.double(), face_tokens, otsu_threshold(similarity[face_tokens]))


def otsu_threshold(values: Float[Tensor, " n"]) -> float:
    """Return the threshold that maximises the variance between the classes below and above it, on 256 bins.

    The threshold is the centre of the last bin of the lower class, the lowest one among equals, as in scikit-image; a
    value in the upper half of that bin thus lies above. When all values are equal it is that value: nothing lies below.

    Raises:
        ValueError: When there is no value or one is not finite.
    """
    if not values.numel() or not bool(torch.isfinite(values).all()):
        raise ValueError(f"Otsu's threshold needs at least one value and finite ones, got {values.numel()} values")
    samples = values.detach().cpu().double().numpy()
    low, high = float(samples.min()), float(samples.max())
    if low == high:
        return low
    counts, edges = np.histogram(samples, bins=_OTSU_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    # Row k: the lower class is bins 0..k. The end bins are never empty, so neither class is.
    lower = np.cumsum(counts)[:-1]
    upper = counts.sum() - lower
    lower_sum = np.cumsum(counts * centres)
    lower_mean = lower_sum[:-1] / lower
    upper_mean = (lower_sum[-1] - lower_sum[:-1]) / upper
    return float(centres[np.argmax(lower * upper * (lower_mean - upper_mean) ** 2)])
