"""Precision and recall of point prompts, counted in image tokens.

These are the prompts that matching hands to the reweighter [S3POT §3.3]. A prompt is a token, so truth is brought to
the token grid: the share of each token cell that the truth covers (area mean). An occlusion prompt is right when true
occlusion covers more than half of its cell, a face prompt when the visible face (R without the occluder) does.

The grid covers the long side of the image, and a shorter side is padded at the bottom or right, as SAM does; padding
counts as not covered.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3pot.metrics.mask_checks import BoolImage, TokenIds, require_bool_images

# Cells of a fractional number of pixels sum to 0.5 only up to rounding; a cell that is exactly half covered is not
# right.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class PromptQuality:
    """Quality of one set of prompts."""

    precision: float
    """Share of the prompts that are right; NaN without prompts."""
    recall: float
    """Share of the wanted tokens that are prompts; NaN when no token is wanted."""
    prompts: int
    """Number of prompts."""
    wanted: int
    """Number of tokens inside the face mask that the truth covers by more than half."""


def token_share(covered: BoolImage, token_grid: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the covered share of every token cell.

    Args:
        covered: (H, W) bool in the frame that is encoded.
        token_grid: (h, w) tokens; a cell is a square of max(H / h, W / w) px.

    Returns:
        (h, w) float64 in [0, 1].

    Raises:
        ValueError: `covered` is not a bool image, or the grid is not positive.
    """
    require_bool_images(covered=covered)
    rows, columns = token_grid
    if rows < 1 or columns < 1:
        raise ValueError(f"token_grid must be positive; got {token_grid}")
    height, width = covered.shape
    cell_px = max(height / rows, width / columns)
    share: npt.NDArray[np.float64] = (
        _cell_weights(rows, height, cell_px) @ covered.astype(np.float64) @ _cell_weights(columns, width, cell_px).T
    )
    return share


def prompt_quality(
    prompt_ids: TokenIds, *, true_share: npt.NDArray[np.float64], face_share: npt.NDArray[np.float64]
) -> PromptQuality:
    """Compare one set of prompts with the truth.

    Args:
        prompt_ids: (N,) int, ids on the full grid (row * w + column), each at most once.
        true_share: (h, w), share of each cell covered by what these prompts should lie on (`token_share`).
        face_share: (h, w), share of each cell covered by the predicted face mask; recall asks for tokens inside it
            only, since the matching never prompts elsewhere.

    Raises:
        ValueError: ids not integer, not on the grid or repeated, or the grids differ.
    """
    if true_share.ndim != 2 or true_share.shape != face_share.shape:
        raise ValueError(f"expected two grids of one shape (h, w); got {true_share.shape} and {face_share.shape}")
    _require_ids(prompt_ids, true_share.size)
    right = (true_share > 0.5 + _ROUNDING).ravel()
    wanted = right & (face_share > 0.5 + _ROUNDING).ravel()
    wanted_count = int(np.count_nonzero(wanted))
    return PromptQuality(
        precision=float(np.mean(right[prompt_ids])) if prompt_ids.size else math.nan,
        recall=int(np.count_nonzero(wanted[prompt_ids])) / wanted_count if wanted_count else math.nan,
        prompts=int(prompt_ids.size),
        wanted=wanted_count,
    )


def _cell_weights(cells: int, length_px: int, cell_px: float) -> npt.NDArray[np.float64]:
    """Return (cells, length_px): the part of each cell along one axis that each pixel fills."""
    start = np.arange(cells)[:, None] * cell_px
    pixel = np.arange(length_px)[None, :]
    overlap_px = np.minimum(start + cell_px, pixel + 1) - np.maximum(start, pixel)
    weights: npt.NDArray[np.float64] = np.clip(overlap_px, 0.0, None) / cell_px
    return weights


def _require_ids(prompt_ids: TokenIds, tokens: int) -> None:
    """Require distinct integer ids in [0, tokens)."""
    if prompt_ids.ndim != 1 or not np.issubdtype(prompt_ids.dtype, np.integer):
        raise ValueError(f"prompt_ids must be a 1-D integer array; got {prompt_ids.dtype} {prompt_ids.shape}")
    if prompt_ids.size and (prompt_ids.min() < 0 or prompt_ids.max() >= tokens):
        raise ValueError(
            f"prompt_ids must lie in [0, {tokens}); got {int(prompt_ids.min())} to {int(prompt_ids.max())}"
        )
    if np.unique(prompt_ids).size != prompt_ids.size:
        raise ValueError("prompt_ids must be distinct; got repeated ids")
