"""What the nano SAM is asked to segment when it is measured: targets of composites and of natural photographs.

    occluder        the occluder; negatives on the rest of the face
    visible_face    the face region R without the occluder; what feature enhancement asks with one skin point
    part            nose, lip, eyes, eyebrows, mouth of the clean labels, as far as they are visible
    segment         a segment that a human drew in a natural photograph

A manifest of composites holds the occluder's truth inside R only. The mask is then read inside R, too: beyond the face
nobody knows where the occluder ends. With a column `occluder_path` (0 or 255, all of the occluder) all of it counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

from s3pot.images import decode_png
from s3pot.ladder import LadderImage
from s3pot.parsing.classes import CLASSES

PARTS = ("nose", "lip", "eyes", "eyebrows", "mouth")
LEAST_AREA_PX = 400
"""Smaller parts and segments are left out."""
_MOST_SEGMENT = 0.8
_SKIN = CLASSES.index("skin")
# Levels of 255: a change of the picture beyond the face that is more than rounding and a faint shadow.
_CHANGED = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """One thing to segment.

    Attributes:
        kind: occluder, visible_face, part or segment.
        name: which part or segment; empty where there is one only.
        inside: (H, W) bool, the thing.
        positives: (H, W) bool, where positive points may lie.
        contrast: (H, W) bool, where negative points may lie.
        counted: (H, W) bool, where the mask is compared with the thing.
    """

    kind: str
    name: str
    inside: Bool[np.ndarray, "h w"]
    positives: Bool[np.ndarray, "h w"]
    contrast: Bool[np.ndarray, "h w"]
    counted: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetPicture:
    """A picture with everything it is asked for.

    Attributes:
        id: image id.
        face_id: cluster of the intervals; the photograph itself where there is no face.
        cutout_id: second cluster.
        image: (H, W, 3) uint8 RGB.
        targets: possibly none.
    """

    id: str
    face_id: str
    cutout_id: str
    image: UInt8[np.ndarray, "h w 3"]
    targets: tuple[Target, ...]


def occluded(images: Sequence[LadderImage]) -> list[LadderImage]:
    """Keep the composites with an occluder inside the face: no clean faces, no decoys."""
    return [entry for entry in images if entry.truth.occlusion is not None and entry.truth.occlusion.any()]


def composite_pictures(images: Sequence[LadderImage]) -> list[TargetPicture]:
    """Return every occluded composite with its targets."""
    return [
        TargetPicture(
            id=entry.row.id,
            face_id=entry.row.face_id,
            cutout_id=entry.row.cutout_id,
            image=entry.image,
            targets=tuple(_composite_targets(entry)),
        )
        for entry in occluded(images)
    ]


def _composite_targets(entry: LadderImage) -> list[Target]:
    truth, region = _truth_and_region(entry)
    visible = region & ~truth
    drawn = _drawn_occluder(entry)
    occluder = truth if drawn is None else drawn
    everywhere = np.ones_like(region)
    targets = [
        Target(
            kind="occluder",
            name="",
            inside=occluder,
            positives=occluder,
            contrast=visible,
            counted=region if drawn is None else everywhere,
        ),
        Target(
            kind="visible_face",
            name="",
            inside=visible,
            positives=visible & (entry.parsing == _SKIN),
            contrast=~visible,
            counted=everywhere,
        ),
    ]
    for name in PARTS:
        part = (entry.parsing == CLASSES.index(name)) & ~occluder
        if part.sum() >= LEAST_AREA_PX:
            rest = visible & ~part
            targets.append(
                Target(kind="part", name=name, inside=part, positives=part, contrast=rest, counted=everywhere)
            )
    return [target for target in targets if target.positives.any()]


def natural_pictures(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], segments: Sequence[Sequence[Int[np.ndarray, "_ _"]]], size: int
) -> list[TargetPicture]:
    """Return the central square of every photograph with the first annotator's segments, resized to `size`.

    Segments below `LEAST_AREA_PX` at that size and those that fill more than 80 % of the square are left out.
    """
    pictures = []
    for number, (image, annotators) in enumerate(zip(images, segments, strict=True)):
        side = min(image.shape[:2])
        top, left = ((extent - side) // 2 for extent in image.shape[:2])
        square = (slice(top, top + side), slice(left, left + side))
        small = cv2.resize(image[square], (size, size), interpolation=cv2.INTER_AREA)
        labels = annotators[0][square].astype(np.float32)
        labels = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST).astype(np.int32)
        name = f"natural-{number:04d}"
        targets = tuple(_segment_targets(labels))
        pictures.append(TargetPicture(id=name, face_id=name, cutout_id=name, image=small, targets=targets))
    return pictures


def _segment_targets(labels: np.ndarray) -> list[Target]:
    ids, areas = np.unique(labels, return_counts=True)
    everywhere = np.ones(labels.shape, dtype=bool)
    targets = []
    for segment, area in zip(ids, areas, strict=True):
        if LEAST_AREA_PX <= area < _MOST_SEGMENT * labels.size:
            inside = labels == segment
            targets.append(
                Target(
                    kind="segment",
                    name=str(segment),
                    inside=inside,
                    positives=inside,
                    contrast=~inside,
                    counted=everywhere,
                )
            )
    return targets


def occluder_extent(entry: LadderImage) -> Bool[np.ndarray, "h w"]:
    """Return all that the occluder covers: drawn, or truth inside R and whatever changed beyond R (a shadow, too)."""
    drawn = _drawn_occluder(entry)
    if drawn is not None:
        return drawn
    truth, region = _truth_and_region(entry)
    change = np.abs(entry.image.astype(np.int16) - entry.clean.astype(np.int16)).max(axis=2)
    extent: Bool[np.ndarray, "h w"] = truth | ((change > _CHANGED) & ~region)
    return extent


def _drawn_occluder(entry: LadderImage) -> Bool[np.ndarray, "h w"] | None:
    path = getattr(entry.row, "occluder_path", None)
    return None if path is None else decode_png(Path(path).read_bytes(), path) > 127


def _truth_and_region(entry: LadderImage) -> tuple[np.ndarray, np.ndarray]:
    if entry.truth.occlusion is None or entry.truth.region is None:
        raise ValueError(f"{entry.row.id}: the scorecard needs truth and face region of every composite")
    return entry.truth.occlusion, entry.truth.region
