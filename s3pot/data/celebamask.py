"""CelebAMask-HQ and other label maps of 19 classes: parts or merged maps to labels, parsing and face region.

CelebAMask-HQ comes as one PNG per part, `<number>_<part>.png` in folders of 2,000 pictures, 512 x 512 for pictures of
1024 x 1024. Merged as its authors do (face_parsing/Data_preprocessing/g_mask.py): in the order of the classes, later
ones over earlier ones. Labels come out in the CelebAMask-HQ order and at the size of the picture.

No class exists for hands, cups or microphones: such a map says nothing about occlusion, and some faces carry one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from s3pot.data.annotation import AnnotationError
from s3pot.images import read_image, read_labels
from s3pot.metrics.face_region import face_region
from s3pot.parsing.classes import LABEL_ORDERS, LabelOrder, celebamask_to_12

_CLASSES = LABEL_ORDERS["celebamask_hq"]
_PART = re.compile(r"(\d+)_(\w+)\.png")
Labels = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledFace:
    """What label maps say of one picture, in its frame.

    Attributes:
        labels: (H, W) uint8, 19 classes in the CelebAMask-HQ order.
        parsing: (H, W) uint8, the 12 classes of the chain.
        region: (H, W) bool, the face region R.
    """

    labels: Labels
    parsing: Labels
    region: Bool[np.ndarray, "h w"]


def list_parts(root: Path) -> tuple[dict[int, dict[str, Path]], list[str]]:
    """List part masks below a folder, by picture number and part.

    Returns:
        The parts, and a sentence for every PNG whose name is none of a part.

    Raises:
        FileNotFoundError: if there are none.
    """
    parts: dict[int, dict[str, Path]] = {}
    broken = []
    for path in sorted(root.rglob("*.png")):
        match = _PART.fullmatch(path.name)
        if match is None or match[2] not in _CLASSES[1:]:
            broken.append(f"{path}: is no part, <number>_<part>.png with one of {', '.join(_CLASSES[1:])}")
            continue
        of_picture = parts.setdefault(int(match[1]), {})
        if match[2] in of_picture:
            broken.append(f"{path}: the same part lies in {of_picture[match[2]]}, which is taken")
        of_picture.setdefault(match[2], path)
    if not parts:
        raise FileNotFoundError(f"annotations={root}: no parts <number>_<part>.png, such as 0/00000_skin.png")
    return parts, broken


def merge_parts(parts: Mapping[str, Path]) -> Labels:
    """Merge the part masks of one picture into one label map of the CelebAMask-HQ order.

    Raises:
        ImageError: if one cannot be read.
        AnnotationError: if they differ in size.
    """
    labels: Labels | None = None
    for number, name in enumerate(_CLASSES):
        if name not in parts:
            continue
        part = read_image(parts[name])[..., 0] != 0
        if labels is None:
            labels = np.zeros(part.shape, dtype=np.uint8)
        if part.shape != labels.shape:
            raise AnnotationError(f"{parts[name]}: of size {part.shape}, but parts before it of {labels.shape}")
        labels[part] = number
    assert labels is not None
    return labels


def read_label_map(path: Path, order: LabelOrder) -> Labels:
    """Read a merged label map of a named order; returns it in the CelebAMask-HQ order.

    Raises:
        ImageError: if it cannot be read or holds colours.
        AnnotationError: if it holds a number that the order does not have.
    """
    labels = read_labels(path)
    if int(labels.max()) >= len(_CLASSES):
        raise AnnotationError(f"{path}: {order} labels run from 0 to 18, got {int(labels.max())}: another label order?")
    return reordered(labels, order)


def reordered(labels: Labels, order: LabelOrder) -> Labels:
    """Turn labels 0..18 of a named order into the CelebAMask-HQ order."""
    table = np.array([_CLASSES.index(name) for name in LABEL_ORDERS[order]], dtype=np.uint8)
    turned: Labels = table[labels]
    return turned


def labelled_face(labels: Labels, size: tuple[int, int], name: str) -> LabelledFace:
    """Bring labels to the frame of their picture and derive parsing and face region.

    Args:
        labels: CelebAMask-HQ order, of the picture's proportions.
        size: (height, width) of the picture.
        name: for messages.

    Raises:
        AnnotationError: if the proportions differ, or nothing of a face is labelled.
    """
    height, width = size
    if abs(labels.shape[0] * width - labels.shape[1] * height) > max(size):  # by more than rounding
        raise AnnotationError(f"{name}: labels of size {labels.shape} do not fit a picture of {height} x {width}")
    if labels.shape != size:
        labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    parsing = celebamask_to_12(labels)
    region = face_region(parsing)
    if not region.any():
        raise AnnotationError(f"{name}: no pixel of a face is labelled")
    return LabelledFace(labels=labels, parsing=parsing, region=region)
