"""LabelMe and X-AnyLabeling JSON, one file per picture, read and written.

Read are polygons, rectangles (two corners, or four as X-AnyLabeling writes them since 2.2), rotated rectangles, other
quadrilaterals, circles (centre and a point on them) and LabelMe's masks. Keys of other tools are left alone.

Neither program knows holes in polygons (X-AnyLabeling's author advises to draw outer and inner border apart and to
combine them afterwards, issue 728), so a hole is a polygon of its own, labelled `hole`, with the `group_id` of the area
it is cut from; see `s3pot.data.annotation`.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from s3pot.data.annotation import AnnotationError, Area, FaceAnnotation, LabelRoles, combine
from s3pot.data.polygons import Outline, rasterise
from s3pot.images import decode_png

_VERSION = "2.4.0"  # of X-AnyLabeling, whose keys these are; LabelMe reads them, too
_OURS = "s3pot"  # both programs carry keys they do not know along
_QUADRILATERALS = ("rectangle", "rotation", "quadrilateral")


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelmeFile:
    """One annotation file.

    Attributes:
        path: of the file.
        shapes: everything drawn, as the file has it.
        picture: its `imagePath`; None if it names none.
        picture_data: the picture's own bytes where they are embedded.
        size: (height, width) it was made for; None if it does not say.
        id: of the picture in the manifest it was exported from; None for annotations of other origin.
    """

    path: Path
    shapes: Sequence[Any]
    picture: str | None
    picture_data: bytes | None
    size: tuple[int, int] | None
    id: str | None


def read_labelme(path: Path) -> LabelmeFile:
    """Read an annotation without its shapes being looked at.

    Raises:
        AnnotationError: if it cannot be read or is no such annotation.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise AnnotationError(f"{path}: is no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise AnnotationError(f"{path}: is no X-AnyLabeling or LabelMe annotation: it has no list 'shapes'")
    picture, ours = content.get("imagePath"), content.get(_OURS)
    own_id = ours.get("id") if isinstance(ours, dict) else None
    return LabelmeFile(
        path=path,
        shapes=content["shapes"],
        picture=picture if isinstance(picture, str) and picture else None,
        picture_data=_embedded(content.get("imageData"), path),
        size=_size(content, path),
        id=own_id if isinstance(own_id, str) and own_id else None,
    )


def draw_labelme(file: LabelmeFile, size: tuple[int, int], roles: LabelRoles) -> FaceAnnotation:
    """Draw what an annotation holds.

    Args:
        file: of the picture.
        size: (height, width) of the picture, upright.
        roles: what its labels mean.

    Returns:
        Masks of the picture's size; without any occlusion the truth is empty.

    Raises:
        AnnotationError: if it was made for a picture of another size, holds a label or a shape that is not known, or
            no face where there must be one.
    """
    if file.size is not None and file.size != size:
        raise AnnotationError(
            f"{file.path}: made for a picture of height {file.size[0]} and width {file.size[1]}, "
            f"but the picture's are {size[0]} and {size[1]}: it belongs to another file, or the picture was resized"
        )
    areas = []
    for number, shape in enumerate(file.shapes):
        try:
            area = _area(shape, size, roles)
        except ValueError as error:
            raise AnnotationError(f"{file.path}: shape {number}: {error}") from error
        if area is not None:
            areas.append(area)
    try:
        return combine(areas, roles, size)
    except ValueError as error:
        raise AnnotationError(f"{file.path}: {error}") from error


def labelme_content(
    *, image_id: str, picture: str, size: tuple[int, int], drawn: Mapping[str, Sequence[Outline]], note: str = ""
) -> dict[str, Any]:
    """Return an annotation to be written as JSON.

    Args:
        image_id: of the manifest, kept beside everything else.
        picture: path of the picture, relative to the folder of the annotation.
        size: (height, width) of the picture.
        drawn: outlines by label; holes get the label `hole` and the group of their area.
        note: goes into the description of every polygon.
    """
    shapes = []
    group = 0
    for label, outlines in drawn.items():
        for outline in outlines:
            group += bool(outline.holes)
            number = group if outline.holes else None
            shapes.append(_polygon(label, outline.outer, number, note))
            shapes += [_polygon("hole", hole, number, note) for hole in outline.holes]
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": picture,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
        _OURS: {"id": image_id},
    }


def _polygon(label: str, points: np.ndarray, group: int | None, note: str) -> dict[str, Any]:
    return {
        "label": label,
        "points": np.round(points, 3).tolist(),
        "group_id": group,
        "description": note,
        "shape_type": "polygon",
        "flags": {},
    }


def _embedded(data: Any, path: Path) -> bytes | None:
    if data is None or data == "":
        return None
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise AnnotationError(f"{path}: imageData is no base64: {error}") from error


def _size(content: dict[str, Any], path: Path) -> tuple[int, int] | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None and width is None:  # LabelMe before version 3
        return None
    if type(height) is not int or type(width) is not int:
        raise AnnotationError(f"{path}: imageHeight and imageWidth are no whole numbers: {height!r}, {width!r}")
    return height, width


def _area(shape: Any, size: tuple[int, int], roles: LabelRoles) -> Area | None:
    if not isinstance(shape, dict):
        raise ValueError(f"expected an object with label and points, got {type(shape).__name__}")
    role = roles.role_of(shape.get("label"))
    group = shape.get("group_id")
    if group is not None and not isinstance(group, int | str):
        raise ValueError(f"group_id {group!r} is neither a number nor text")
    return None if role == "ignore" else Area(role=role, mask=_drawn(shape, size), group=group)


def _drawn(shape: dict[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    kind, label = shape.get("shape_type"), shape.get("label")
    points = _points(shape.get("points"))
    count = 0 if points is None else len(points)
    if kind in ("polygon", None):  # LabelMe before version 3 knew polygons only and wrote no type
        if points is None or count < 3:
            raise ValueError(f"the {label} needs at least 3 points, each two finite numbers [x, y]")
        return rasterise(points, size)
    if points is not None and count == 2:
        match kind:
            case "rectangle":
                (left, top), (right, bottom) = points
                return rasterise(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), size)
            case "circle":
                return _disc(points, size)
            case "mask":
                return _pasted(shape.get("mask"), points, size)
    if points is not None and count == 4 and kind in _QUADRILATERALS:
        return rasterise(points, size)
    if kind in (*_QUADRILATERALS, "circle", "mask"):
        raise ValueError(f"the {label} is a {kind} of {count} points, each of which must be two finite numbers [x, y]")
    raise ValueError(f"the {label} is a {kind}, which has no area: draw its outline as a polygon")


def _points(points: Any) -> Float[np.ndarray, "n 2"] | None:
    if not isinstance(points, Sequence) or not points:
        return None
    for point in points:
        if not isinstance(point, Sequence) or len(point) != 2:
            return None
        if not all(type(value) in (int, float) and math.isfinite(value) for value in point):
            return None
    return np.array(points, dtype=np.float64)


def _disc(points: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    (x, y), rim = points
    rows, cols = np.ogrid[: size[0], : size[1]]
    inside: Bool[np.ndarray, "h w"] = np.hypot(cols + 0.5 - x, rows + 0.5 - y) <= math.dist((x, y), rim)
    return inside


def _pasted(data: Any, points: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Put a mask of LabelMe into the picture: its corners are the first and the last pixel, both belonging to it."""
    left, top, right, bottom = (int(value) for value in points.ravel())
    try:
        small = decode_png(base64.b64decode(data, validate=True), "the mask")
    except (TypeError, ValueError) as error:  # ImageError and binascii.Error are ValueErrors
        raise ValueError(f"its mask is no PNG in base64: {error}") from error
    shape = (bottom - top + 1, right - left + 1)
    if small.shape != shape or not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
        raise ValueError(f"its mask of {small.shape[:2]} pixels does not fit its corners {points.tolist()}")
    pasted = np.zeros(size, dtype=bool)
    pasted[top : bottom + 1, left : right + 1] = small > 0
    return pasted
