"""How well the face parser parses clean faces, and faces through their occluders, against the clean labels.

The parser's own labels are judged, before any completion. The IoU of a class is pooled over the collection (sum of
intersections over sum of unions), then averaged over the six face classes; that of the face mask is a mean per image.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8

from s3pot.ladder import LadderImage
from s3pot.parsing.classes import CLASSES, FACE_CLASSES, face_mask
from s3pot.parsing.network import FaceParser, parse_faces
from s3pot.scorecard.estimates import Estimate, mean_of, mean_of_ratios
from s3pot.scorecard.targets import occluded

_AT_ONCE = 16
_NAMES = [CLASSES[index] for index in FACE_CLASSES]


def measure_parser(images: Sequence[LadderImage], parser: FaceParser) -> pd.DataFrame:
    """Parse every occluded composite, and the clean picture of every face below one.

    Returns:
        One row per picture: picture ("clean" or "occluded"), id, face_id, cutout_id (empty for clean ones), face_iou,
        and `<class>_intersection` and `<class>_union` in pixels of the six face classes.
    """
    composites = occluded(images)
    clean = list({entry.row.face_id: entry for entry in reversed(composites)}.values())[::-1]
    rows = []
    for name, entries in (("clean", clean), ("occluded", composites)):
        for first in range(0, len(entries), _AT_ONCE):
            batch = entries[first : first + _AT_ONCE]
            found = _parse([entry.clean if name == "clean" else entry.image for entry in batch], parser)
            for entry, parsing in zip(batch, found, strict=True):
                known = {"picture": name, "id": entry.row.id, "face_id": entry.row.face_id}
                cutout = entry.row.cutout_id if name == "occluded" else ""
                rows.append(known | {"cutout_id": cutout} | compare_parsings(parsing, entry.parsing))
    return pd.DataFrame(rows)


def estimate_parser(table: pd.DataFrame, seed: int = 0) -> dict[str, Estimate]:
    """Average the table of `measure_parser`."""
    found = {}
    for name, rows in table.groupby("picture"):
        note = "pooled per class" if name == "occluded" else "pooled per class, one picture per face"
        found[f"parser/classes_{name}"] = mean_of_ratios(
            rows, [f"{part}_intersection" for part in _NAMES], [f"{part}_union" for part in _NAMES], seed, note
        )
        found[f"parser/face_{name}"] = mean_of(rows, "face_iou", seed)
    return found


def compare_parsings(found: UInt8[np.ndarray, "h w"], labels: UInt8[np.ndarray, "h w"]) -> dict[str, float]:
    """Count the overlap of two parsings class by class; `face_iou` is NaN when neither shows a face."""
    counts: dict[str, float] = {}
    for index, name in zip(FACE_CLASSES, _NAMES, strict=True):
        first, second = found == index, labels == index
        counts[f"{name}_intersection"] = float((first & second).sum())
        counts[f"{name}_union"] = float((first | second).sum())
    first, second = face_mask(found), face_mask(labels)
    union = float((first | second).sum())
    return counts | {"face_iou": float((first & second).sum()) / union if union else float("nan")}


def _parse(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], parser: FaceParser) -> list[UInt8[np.ndarray, "_ _"]]:
    """Parse pictures of one side, padded at the bottom and right as in the frozen prefix."""
    side = max(max(picture.shape[:2]) for picture in pictures)
    batch = np.zeros((len(pictures), side, side, 3), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        batch[row, : picture.shape[0], : picture.shape[1]] = picture
    device = next(parser.parameters()).device
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).to(device).float() / 255.0
    labels = parse_faces(parser, pixels).cpu().numpy()
    return [row[: picture.shape[0], : picture.shape[1]] for row, picture in zip(labels, pictures, strict=True)]
