"""COCO annotations: one JSON file for many pictures, read and written.

Segmentations are polygons (several of one annotation are united) or run lengths of either spelling. A `crowd` counts
like anything else: what is asked is which pixels are covered, not by how many things. Category names are the labels
that `LabelRoles` speaks of.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from s3pot.data.annotation import AnnotationError, Area, FaceAnnotation, LabelRoles, combine
from s3pot.data.polygons import rasterise
from s3pot.data.run_lengths import decode_runs, encode_runs

CATEGORIES = ("occlusion", "face")
_OUR_ID = "s3pot_id"
Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoImage:
    """One picture of a COCO file with what was drawn on it.

    Attributes:
        name: of the picture's file.
        size: (height, width).
        drawn: (label, annotation) as the file has them.
        id: of the picture in the manifest it was exported from; None for files of other origin.
    """

    name: str
    size: tuple[int, int]
    drawn: tuple[tuple[str, Mapping[str, Any]], ...]
    id: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoFile:
    """A COCO file.

    Attributes:
        images: pictures with at least one annotation.
        unlabelled: number of pictures without any.
        broken: what is no picture and no annotation of one, a sentence each.
    """

    images: tuple[CocoImage, ...]
    unlabelled: int
    broken: tuple[str, ...]


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file without its segmentations being looked at.

    Raises:
        AnnotationError: if it cannot be read or is no COCO file.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: is no JSON: {error}") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        raise AnnotationError(f"{path}: is no COCO file: it needs the lists {', '.join(lists)}")
    broken: list[str] = []
    categories = [entry for entry in content["categories"] if isinstance(entry, dict)]
    labels = {_hashable(entry.get("id")): entry.get("name") for entry in categories if "id" in entry}
    images = _images(content["images"], broken)
    drawn: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {number: [] for number in images}
    for place, entry in enumerate(content["annotations"]):
        image, label = (entry.get("image_id"), entry.get("category_id")) if isinstance(entry, dict) else (None, None)
        if _hashable(image) not in images or _hashable(label) not in labels:
            broken.append(f"annotation {place}: image_id {image!r}, category_id {label!r}: no such picture or category")
        else:
            drawn[image].append((str(labels[label]), entry))
    filled = [
        CocoImage(name=entry["file_name"], size=(entry["height"], entry["width"]), drawn=tuple(drawn[number]), id=own)
        for number, entry in images.items()
        for own in [entry.get(_OUR_ID)]
        if drawn[number]
    ]
    return CocoFile(images=tuple(filled), unlabelled=len(images) - len(filled), broken=tuple(broken))


def draw_coco(image: CocoImage, size: tuple[int, int], roles: LabelRoles) -> FaceAnnotation:
    """Draw what is annotated on a picture.

    Args:
        image: of a COCO file.
        size: (height, width) of the picture itself, upright.
        roles: what category names mean.

    Raises:
        AnnotationError: naming the picture and the annotation that cannot be used.
    """
    if image.size != size:
        raise AnnotationError(
            f"{image.name}: annotated at height {image.size[0]} and width {image.size[1]}, but the picture's are "
            f"{size[0]} and {size[1]}"
        )
    try:
        areas = []
        for label, annotation in image.drawn:
            role = roles.role_of(label)
            if role != "ignore":
                areas.append(Area(role=role, mask=_segmented(annotation, size)))
        return combine(areas, roles, size)
    except ValueError as error:
        raise AnnotationError(f"{image.name}: {error}") from error


def coco_annotation(label: str, mask: Mask) -> dict[str, Any]:
    """Return the annotation of a mask as run lengths, without its numbers.

    Args:
        label: one of `CATEGORIES`.
        mask: (H, W) bool; an empty one is an annotation, too, so that a picture known to be free differs from one
            nobody looked at.
    """
    return {
        "category_id": CATEGORIES.index(label) + 1,
        "segmentation": encode_runs(mask),
        "area": int(np.count_nonzero(mask)),
        "bbox": _box(mask),
        "iscrowd": 0,
    }


def coco_content(
    pictures: Iterable[tuple[str, str, tuple[int, int], Sequence[Mapping[str, Any]]]],
) -> dict[str, Any]:
    """Return a COCO file to be written as JSON.

    Args:
        pictures: (image id, file name, (height, width), annotations from `coco_annotation`).
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image_id, name, (height, width), drawn) in enumerate(pictures, start=1):
        images.append({"id": number, "file_name": name, "height": height, "width": width, _OUR_ID: image_id})
        for annotation in drawn:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _images(entries: list[Any], broken: list[str]) -> dict[Any, dict[str, Any]]:
    images: dict[Any, dict[str, Any]] = {}
    for place, entry in enumerate(entries):
        usable = (
            isinstance(entry, dict)
            and isinstance(entry.get("id"), int | str)
            and isinstance(entry.get("file_name"), str)
            and type(entry.get("height")) is type(entry.get("width")) is int
        )
        if not usable:
            broken.append(f"image {place}: needs id, file_name, height and width")
        elif entry["id"] in images:
            broken.append(f"image {place} ({entry['file_name']}): its id {entry['id']!r} belongs to another picture")
        else:
            images[entry["id"]] = entry
    return images


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _segmented(annotation: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    where = f"annotation {annotation.get('id')}"
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        try:
            return decode_runs(segmentation, size)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"{where}: has no segmentation")
    united = np.zeros(size, dtype=bool)
    for numbers in segmentation:
        if not _is_polygon(numbers):
            raise ValueError(
                f"{where}: a polygon is a list of x, y, x, y ...: at least 6 finite numbers, an even count"
            )
        united |= rasterise(np.array(numbers, dtype=np.float64).reshape(-1, 2), size)
    return united


def _is_polygon(numbers: Any) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) >= 6
        and len(numbers) % 2 == 0
        and all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
    )


def _box(mask: Mask) -> list[int]:
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    return [int(value) for value in (cols[0], rows[0], cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1)]
