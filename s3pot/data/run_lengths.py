"""COCO's run-length encoding of masks: lengths of alternating runs, down the columns, starting with a run of False.

Both spellings: `counts` as a list of numbers, and as the compact text of pycocotools (each length as the difference to
the one two before, from the fourth on, in groups of five bits; maskApi.c of cocodataset/cocoapi). Own code, because the
lengths must be checked: pycocotools 2.0.11 fills a mask that is too short with whatever lies in memory.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool

Mask = Bool[np.ndarray, "h w"]


def encode_runs(mask: Mask) -> dict[str, Any]:
    """Encode a mask, (H, W) bool, as `{"size": [height, width], "counts": text}`."""
    return {"size": [int(side) for side in mask.shape], "counts": _pack(_runs(mask))}


def decode_runs(encoded: Any, size: tuple[int, int]) -> Mask:
    """Decode a mask of either spelling.

    Args:
        encoded: with `size` and `counts`.
        size: (height, width) it must have.

    Raises:
        ValueError: if it is malformed, has another size, or its runs do not add up to it.
    """
    if not isinstance(encoded, dict) or list(encoded.get("size") or []) != list(size):
        came = encoded.get("size") if isinstance(encoded, dict) else type(encoded).__name__
        raise ValueError(f"run lengths of size {came} for a picture of height {size[0]} and width {size[1]}")
    counts = encoded.get("counts")
    runs = _unpack(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("counts are neither a list of lengths nor their text")
    if sum(runs) != size[0] * size[1]:
        raise ValueError(f"runs of {sum(runs)} pixels in all for a picture of {size[0]} x {size[1]}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size, order="F")


def _runs(mask: Mask) -> list[int]:
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], changes, [mask.size]]))]


def _pack(runs: list[int]) -> str:
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            # The fifth bit of the last group is the sign.
            more = value != (-1 if bits & 16 else 0)
            text += chr(bits + 48 + (32 if more else 0))
    return text


def _unpack(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"counts hold {letter!r}, which is no part of a length")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("counts end within a length")
    return runs
