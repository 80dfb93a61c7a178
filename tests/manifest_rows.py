"""Manifest rows of a drawn face whose left half is occluded, written by hand: no models."""

from pathlib import Path

import numpy as np

from s3pot.images import encode_png, write_png
from s3pot.store.manifest import SCHEMA
from tests.faces import draw_face

SIDE = 64


def half_occluded_row(folder: Path, **changes: object) -> dict[str, object]:
    """A manifest row of a picture of `SIDE` pixels that is its own aligned crop."""
    write_png(folder / "truth.png", left_half())
    row: dict[str, object] = dict.fromkeys(SCHEMA.names)
    row |= {
        "id": "a",
        "path": "a.png",
        "status": "ok",
        "original_height": SIDE,
        "original_width": SIDE,
        "to_original": [1.0, 0, 0, 0, 1, 0],
        "occlusion_prompts": [27],
        "face_prompts": [28],
        "parsing_png": encode_png(draw_face(SIDE)[1]),
        "truth_path": str(folder / "truth.png"),
        "kind": "objects",
        "face_id": "f",
        "cutout_id": "c",
    }
    return row | changes


def left_half() -> np.ndarray:
    """The truth, 0 or 255."""
    truth = np.zeros((SIDE, SIDE), dtype=np.uint8)
    truth[:, : SIDE // 2] = 255
    return truth
