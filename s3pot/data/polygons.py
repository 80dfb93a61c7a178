"""Polygons to masks and back.

Points are (x, y) in pixels; the pixel in row r and column c is the square from (c, r) to (c + 1, r + 1), as LabelMe,
X-AnyLabeling and COCO draw it. A pixel belongs to a polygon when its centre lies inside.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage import measure

Mask = Bool[np.ndarray, "h w"]
Polygon = Float[np.ndarray, "_ 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """One connected area (by sides, not corners) of a mask.

    Attributes:
        outer: its border.
        holes: borders of what is missing inside it. An island in a hole is an outline of its own.
    """

    outer: Polygon
    holes: tuple[Polygon, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlines:
    """Truth and face region of one picture as polygons.

    Attributes:
        occlusion: connected areas of the occlusion.
        region: connected areas of the face region; none where it is unknown.
        tolerance_px: no point of the exact borders lies farther from its polygon than this.
        iou: of what was given and what the polygons give back: occlusion inside the region, or the region, whichever
            is worse; 1 for two empty masks.
    """

    occlusion: tuple[Outline, ...]
    region: tuple[Outline, ...]
    tolerance_px: float
    iou: float


def rasterise(polygon_xy: Polygon, size: tuple[int, int]) -> Mask:
    """Fill a polygon: every pixel whose centre lies inside (even-odd rule, as the drawing programs fill).

    A polygon along pixel edges gives exactly its pixels, and polygons that share an edge neither overlap nor leave a
    gap. What lies outside the picture is cut off.

    Args:
        polygon_xy: corners (x, y) in pixels; the last is joined to the first.
        size: (height, width) of the mask.
    """
    height, width = size
    filled = np.zeros(size, dtype=bool)
    left, top = (math.floor(value) for value in np.clip(polygon_xy.min(axis=0), 0, (width, height)))
    right, bottom = (math.ceil(value) for value in np.clip(polygon_xy.max(axis=0), 0, (width, height)))
    # How often the outline is crossed between the left border and a pixel: odd = inside.
    crossings = np.zeros((bottom - top, right - left + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(polygon_xy, np.roll(polygon_xy, -1, axis=0), strict=True):
        # Rows whose centre lies in [upper, lower): a corner on a centre counts for one of its two edges only.
        first, end = (math.ceil(y - 0.5) for y in sorted((y0, y1)))
        rows = np.arange(max(first, top), min(end, bottom))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            cols = np.clip(np.ceil(x - 0.5) - left, 0, right - left).astype(int)
            np.add.at(crossings, (rows - top, cols), 1)
    filled[top:bottom, left:right] = np.cumsum(crossings[:, :-1], axis=1) % 2 == 1
    return filled


def fill(areas: tuple[Outline, ...], size: tuple[int, int]) -> Mask:
    """Fill outlines, each without its holes; (height, width)."""
    filled = np.zeros(size, dtype=bool)
    for area in areas:
        inside = rasterise(area.outer, size)
        for hole in area.holes:
            inside &= ~rasterise(hole, size)
        filled |= inside
    return filled


def outlines(
    occlusion: Mask, region: Mask | None, *, tolerance_px: float = 1.0, least_iou: float = 0.98, specks_px: int = 16
) -> Outlines:
    """Outline masks with as few points as the tolerance allows (Douglas and Peucker).

    The tolerance is halved twice, and in the end dropped together with the limit for specks, until the polygons filled
    again have the IoU asked for: small and thin masks need more exactness than large ones. At tolerance 0 they are
    exact.

    Args:
        occlusion: (H, W) bool.
        region: (H, W) bool, the face region; None when unknown. Whoever reads the polygons clips to it.
        tolerance_px: largest distance between the exact border and its polygon, in pixels.
        least_iou: that filling the polygons again must reach, in [0, 1].
        specks_px: areas and holes of fewer pixels are left out.
    """
    for tolerance in (tolerance_px, tolerance_px / 2, tolerance_px / 4) if tolerance_px else ():
        made = _outlined(occlusion, region, tolerance, specks_px)
        if made.iou >= least_iou:
            return made
    return _outlined(occlusion, region, 0.0, 0)


def _outlined(occlusion: Mask, region: Mask | None, tolerance: float, specks: int) -> Outlines:
    areas = _areas(occlusion, tolerance, specks)
    if region is None:
        iou = _iou(fill(areas, occlusion.shape), occlusion)
        return Outlines(occlusion=areas, region=(), tolerance_px=tolerance, iou=iou)
    face = _areas(region, tolerance, specks)
    filled = fill(face, region.shape)
    iou = min(_iou(fill(areas, region.shape) & filled, occlusion & region), _iou(filled, region))
    return Outlines(occlusion=areas, region=face, tolerance_px=tolerance, iou=iou)


def _areas(mask: Mask, tolerance: float, specks: int) -> tuple[Outline, ...]:
    numbered, _ = ndimage.label(mask)
    areas = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        alone = np.pad(numbered[box] == number, 1)
        if np.count_nonzero(alone) < specks:
            continue
        # Borders run through the middle between the centres of two pixels, so that every centre keeps its side.
        offset = np.array([box[1].start - 0.5, box[0].start - 0.5])
        found = measure.find_contours(alone.astype(np.uint8), 0.5, fully_connected="low")
        borders = sorted((border[:-1, ::-1] + offset for border in found), key=_area, reverse=True)
        holes = tuple(_simplified(border, tolerance) for border in borders[1:] if _area(border) >= specks)
        areas.append(Outline(outer=_simplified(borders[0], tolerance), holes=holes))
    return tuple(areas)


def _simplified(border: Polygon, tolerance: float) -> Polygon:
    if tolerance == 0.0:
        return border
    fewer = cv2.approxPolyDP(border.astype(np.float32)[:, None], tolerance, closed=True)[:, 0].astype(np.float64)
    return fewer if len(fewer) >= 3 else border


def _area(border: Polygon) -> float:
    x, y = border.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _iou(first: Mask, second: Mask) -> float:
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0
