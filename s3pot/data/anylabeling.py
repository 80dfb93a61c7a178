"""Hand-drawn occlusions: X-AnyLabeling and LabelMe JSON as boolean masks in the original frame.

Labels: `face` outlines the face region, occluders included; `occlusion` what covers it; `hole` what shows through an
occlusion (skin between fingers). Truth = (occlusion minus hole) inside face; region = face.

Points are (x, y) in pixels of the original picture; the pixel in row r and column c is the square from (c, r) to
(c + 1, r + 1), as both programs draw it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

LABELS = ("occlusion", "face", "hole")


class AnnotationError(ValueError):
    """An annotation cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceAnnotation:
    """What was drawn on one picture, original frame.

    Attributes:
        occlusion: (H, W) bool, True = occluded, inside the face: the truth.
        region: (H, W) bool, the face region.
    """

    occlusion: Bool[np.ndarray, "h w"]
    region: Bool[np.ndarray, "h w"]


def read_annotation(path: Path, size: tuple[int, int]) -> FaceAnnotation:
    """Read the polygons of one annotation.

    Args:
        path: JSON file of X-AnyLabeling or LabelMe.
        size: (height, width) of the picture it belongs to.

    Returns:
        Masks of the picture's size; without any `occlusion` the truth is empty.

    Raises:
        AnnotationError: if the file is no such annotation, was made for a picture of another size, holds a label
            or a shape that is not known, or no face.
    """
    content = _load(path)
    annotated = content.get("imageHeight"), content.get("imageWidth")
    if annotated != size:
        raise AnnotationError(
            f"{path}: made for a picture of height {annotated[0]} and width {annotated[1]}, "
            f"but the picture's are {size[0]} and {size[1]}: it belongs to another file, or the picture was resized"
        )
    masks = {label: np.zeros(size, dtype=bool) for label in LABELS}
    for number, shape in enumerate(content["shapes"]):
        try:
            label, points = _polygon(shape)
        except ValueError as error:
            raise AnnotationError(f"{path}: shape {number}: {error}") from error
        masks[label] |= rasterise(points, size)
    if not masks["face"].any():
        raise AnnotationError(f"{path}: no pixel of a face: outline the face in a polygon labelled 'face'")
    return FaceAnnotation(occlusion=masks["occlusion"] & ~masks["hole"] & masks["face"], region=masks["face"])


def rasterise(polygon_xy: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Fill a polygon: every pixel whose centre lies inside (even-odd rule, as the drawing programs fill).

    A polygon along pixel edges gives exactly its pixels, and polygons that share an edge neither overlap nor leave a
    gap. What lies outside the picture is cut off.

    Args:
        polygon_xy: corners (x, y) in pixels; the last is joined to the first.
        size: (height, width) of the mask.
    """
    height, width = size
    # How often the outline is crossed between the left border and a pixel: odd = inside.
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(polygon_xy, np.roll(polygon_xy, -1, axis=0), strict=True):
        # Rows whose centre lies in [upper, lower): a corner on a centre counts for one of its two edges only.
        first, end = (math.ceil(y - 0.5) for y in sorted((y0, y1)))
        rows = np.arange(max(first, 0), min(end, height))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            cols = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
            np.add.at(crossings, (rows, cols), 1)
    inside: Bool[np.ndarray, "h w"] = np.cumsum(crossings[:, :width], axis=1) % 2 == 1
    return inside


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both
        raise AnnotationError(f"{path}: is no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise AnnotationError(f"{path}: is no X-AnyLabeling or LabelMe annotation: it has no list 'shapes'")
    return content


def _polygon(shape: Any) -> tuple[str, np.ndarray]:
    if not isinstance(shape, dict):
        raise ValueError(f"expected an object with label and points, got {type(shape).__name__}")
    label, kind = shape.get("label"), shape.get("shape_type")
    if label not in LABELS:
        raise ValueError(f"the label {label!r} is none of {', '.join(LABELS)}")
    if kind not in ("polygon", None):  # LabelMe before version 3 knew polygons only and wrote no type
        raise ValueError(f"the {label} is a {kind}; only polygons are read so far: draw its outline as a polygon")
    points = _corners(shape.get("points"))
    if points is None:
        raise ValueError(f"the {label} needs at least 3 points, each two finite numbers [x, y]")
    return label, points


def _corners(points: Any) -> Float[np.ndarray, "n 2"] | None:
    if not isinstance(points, Sequence) or len(points) < 3:
        return None
    for point in points:
        if not isinstance(point, Sequence) or len(point) != 2:
            return None
        if not all(type(value) in (int, float) and math.isfinite(value) for value in point):
            return None
    return np.array(points, dtype=np.float64)
