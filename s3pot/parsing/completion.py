"""Completion of parsings before generation, so that a generator does not redraw the occluder [design 5.10].

A parser that knows no hands calls a scarf background and sunglasses eye_glass, and a generator draws what the parsing
names. Holes and occluder-like classes inside the completed face outline become the face part expected there.

    none    the parsing as it is (the paper)
    fill    whatever the face encloses becomes skin: glasses, a hole, but a lock of hair as well
    hull    occluder-like classes inside the convex hull of the face become skin
    parser  the parser already parses through occluders (the embedded one); worn glasses become what lies under them,
            and what the face then still encloses becomes skin: the face region R has no holes
"""

from typing import Literal, assert_never

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from s3pot.parsing.classes import CLASSES, FACE_CLASSES, face_mask

FaceCompletion = Literal["none", "fill", "hull", "parser"]

_SKIN = CLASSES.index("skin")
_GLASSES = CLASSES.index("eye_glass")
# What an occluder in front of a face is taken for: nothing of these belongs to a bare face.
_OCCLUDER_LIKE = (CLASSES.index("background"), _GLASSES)


def complete_parsing(parsing: UInt8[np.ndarray, "h w"], mode: FaceCompletion) -> UInt8[np.ndarray, "h w"]:
    """Relabel what cannot be part of a bare face inside the face outline.

    Args:
        parsing: (H, W) uint8, 12 classes.
        mode: how the outline is completed.

    Returns:
        (H, W) uint8; the same array for `none`, or when there is no face.
    """
    match mode:
        case "none":
            return parsing
        case "fill":
            return _relabel(parsing, _holes(parsing))
        case "hull":
            return _relabel(parsing, _face_hull(parsing) & np.isin(parsing, _OCCLUDER_LIKE))
        case "parser":
            bare = _relabel(parsing, (parsing == _GLASSES) & _face_hull(parsing))
            return _relabel(bare, _holes(bare))
        case _:
            assert_never(mode)


def _holes(parsing: np.ndarray) -> Bool[np.ndarray, "h w"]:
    face = face_mask(parsing)
    holes: Bool[np.ndarray, "h w"] = binary_fill_holes(face) & ~face
    return holes


def _face_hull(parsing: np.ndarray) -> Bool[np.ndarray, "h w"]:
    points = np.argwhere(face_mask(parsing))[:, ::-1].astype(np.int32)
    hull = np.zeros(parsing.shape, dtype=np.uint8)
    if len(points) >= 3:
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    return hull.astype(bool)


def _relabel(parsing: np.ndarray, where: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Give the places the class of the nearest skin-like face pixel: skin, or nose where the nose is next to it."""
    if not where.any():
        return parsing
    source = np.isin(parsing, (_SKIN, CLASSES.index("nose")))
    if not source.any():
        source = np.isin(parsing, FACE_CLASSES)
    if not source.any():
        return parsing
    rows, cols = distance_transform_edt(~source, return_distances=False, return_indices=True)
    completed = parsing.copy()
    completed[where] = parsing[rows[where], cols[where]]
    return completed
