"""Cut-outs taken out of labelled photographs: hats off CelebAMask-HQ faces, segments off natural photographs.

Cut-out collections hold few hats and few objects; label maps hold many, with the light of a real photograph on them.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

from s3pot.composite.cutouts import MAX_SIDE, Cutout
from s3pot.composite.placement import FaceLayout, face_layout
from s3pot.data.folds import Fold, fold_of_face
from s3pot.images import read_image, read_labels
from s3pot.parsing.classes import CELEBAMASK_HAT, celebamask_to_12, face_mask

HAT_CANVAS = 2.0
"""A hat's canvas is this many face widths wide and high, its centre between the wearer's eyes."""
_LEAST_HAT, _LEAST_FACE = 0.03, 0.05
# Share of the photograph: smaller segments are specks, larger ones background.
_LEAST_SEGMENT, _MOST_SEGMENT = 0.015, 0.2
# Share of a segment's own box: less is a frame around something else.
_LEAST_FILL = 0.45


def worn_hats(root: Path, fold: Fold | None = None, exclude: Collection[str] = ()) -> list[Cutout]:
    """Take hats, caps and headscarves off the labelled faces below `root/{images,labels}`.

    Args:
        root: a CelebAMask-HQ split with merged label maps.
        fold: only off faces of this fold; None takes all.
        exclude: face ids to leave out.

    Returns:
        Cut-outs of kind "hats", possibly none. Not cropped: the canvas is placed by the wearer's eyes (`HAT_CANVAS`).
    """
    hats = []
    for path in sorted((root / "labels").glob("*.png")):
        if path.stem in exclude or (fold is not None and fold_of_face(path.stem) != fold):
            continue
        labels = read_labels(path)
        hat, parsing = labels == CELEBAMASK_HAT, celebamask_to_12(labels)
        if hat.mean() > _LEAST_HAT and face_mask(parsing).mean() > _LEAST_FACE:
            image = cv2.resize(read_image(root / "images" / f"{path.stem}.jpg"), hat.shape[::-1])
            rgba = _around_eyes(_rgba(image, hat), face_layout(parsing))
            hats.append(Cutout(id=f"hats/{path.stem}", kind="hats", rgba=rgba))
    return hats


def natural_segments(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], segments: Sequence[Sequence[Int[np.ndarray, "_ _"]]]
) -> list[Cutout]:
    """Take compact segments out of natural photographs, the first annotator's, as cut-outs of kind "segments".

    Args:
        images: RGB photographs.
        segments: segment ids per annotator of each photograph.
    """
    found = []
    for number, (image, annotators) in enumerate(zip(images, segments, strict=True)):
        ids, areas = np.unique(annotators[0], return_counts=True)
        for segment, area in zip(ids, areas, strict=True):
            inside = annotators[0] == segment
            if not _LEAST_SEGMENT <= area / inside.size <= _MOST_SEGMENT:
                continue
            rows, cols = np.nonzero(inside)
            box = (slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1))
            if inside[box].mean() >= _LEAST_FILL:
                rgba = _limited(_rgba(image, inside)[box])
                found.append(Cutout(id=f"segments/{number:04d}-{segment}", kind="segments", rgba=rgba))
    return found


def _rgba(image: np.ndarray, inside: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    # Hand-drawn outlines run a little outside: the outermost pixels would bring a rim of background along.
    kept = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8))
    alpha = cv2.GaussianBlur(kept.astype(np.float32) * 255.0, (0, 0), 0.8)
    return np.dstack([image, alpha.astype(np.uint8)])


def _around_eyes(rgba: np.ndarray, layout: FaceLayout) -> UInt8[np.ndarray, "s s 4"]:
    side = max(2, round(HAT_CANVAS * layout.size[0]))
    cos, sin = np.cos(-layout.roll), np.sin(-layout.roll)
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = (side - 1) / 2 - linear @ np.array(layout.eyes)
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    return _limited(cv2.warpAffine(rgba, matrix, (side, side), flags=cv2.INTER_LINEAR))


def _limited(rgba: np.ndarray) -> UInt8[np.ndarray, "h w 4"]:
    scale = MAX_SIDE / max(rgba.shape[:2])
    if scale >= 1.0:
        return np.ascontiguousarray(rgba)
    return cv2.resize(rgba, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
