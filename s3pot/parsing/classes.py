"""The 12 parsing classes of the chain and how other label orders map onto them.

`parsing` is (H, W) uint8 with ids into `CLASSES`. The face region F of [S3POT 3.3] is lip, eyebrows, eyes, nose, skin
and mouth: hair, ears, neck and worn glasses are not part of it.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, UInt8

CLASSES: tuple[str, ...] = (
    "background",
    "lip",
    "eyebrows",
    "eyes",
    "hair",
    "nose",
    "skin",
    "ears",
    "below_face",
    "mouth",
    "eye_glass",
    "ear_rings",
)
FACE_CLASSES: tuple[int, ...] = tuple(
    CLASSES.index(name) for name in ("lip", "eyebrows", "eyes", "nose", "skin", "mouth")
)

LabelOrder = Literal["celebamask_hq", "face_parsing_pytorch", "segface"]
LABEL_ORDERS: dict[str, tuple[str, ...]] = {
    "celebamask_hq": tuple(
        "background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck"
        " cloth".split()
    ),
    "face_parsing_pytorch": tuple(
        "background skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip neck neck_l cloth"
        " hair hat".split()
    ),
    "segface": tuple(
        "background neck skin cloth l_ear r_ear l_brow r_brow l_eye r_eye nose mouth l_lip u_lip hair eye_g hat ear_r"
        " neck_l".split()
    ),
}
"""Names of the 19 classes by id, spelled as CelebAMask-HQ spells them, for every order in use:

- `celebamask_hq`: merged label maps; github.com/switchablenorms/CelebAMask-HQ, in
  face_parsing/Data_preprocessing/g_mask.py
- `face_parsing_pytorch`: what BiSeNet gives; github.com/zllrunning/face-parsing.PyTorch, face_dataset.py, which writes
  the label maps that `79999_iter.pth` was trained on
- `segface`: what SegFace's CelebAMask-HQ models give; github.com/Kartik-3004/SegFace, inference.py (read in the fork
  drew0523/SegFace), also the order of FaRL's `celebm` parser
"""

# What each becomes: left and right are one, and so are the lips. Hat and cloth are background: neither belongs to the
# head, and both can lie over a face. A necklace counts as what it lies on; E4S, whose 12 classes these are, calls it
# background (github.com/e4s2022/e4s, src/datasets/dataset.py).
_TO_12 = {
    "background": "background",
    "skin": "skin",
    "nose": "nose",
    "eye_g": "eye_glass",
    "l_eye": "eyes",
    "r_eye": "eyes",
    "l_brow": "eyebrows",
    "r_brow": "eyebrows",
    "l_ear": "ears",
    "r_ear": "ears",
    "mouth": "mouth",
    "u_lip": "lip",
    "l_lip": "lip",
    "hair": "hair",
    "hat": "background",
    "ear_r": "ear_rings",
    "neck_l": "below_face",
    "neck": "below_face",
    "cloth": "background",
}
# What the 12 classes fold into the background, or into glasses of any kind.
CELEBAMASK_GLASSES, CELEBAMASK_HAT = (LABEL_ORDERS["celebamask_hq"].index(name) for name in ("eye_g", "hat"))
_IS_FACE = np.isin(np.arange(256), FACE_CLASSES)


def table_to_12(order: LabelOrder) -> UInt8[np.ndarray, " 19"]:
    """Return the id into `CLASSES` of every one of the 19 ids of an order.

    Raises:
        ValueError: for an unknown order.
    """
    if order not in LABEL_ORDERS:
        raise ValueError(f"unknown label order {order!r}: choose one of {', '.join(get_args(LabelOrder))}")
    return np.array([CLASSES.index(_TO_12[name]) for name in LABEL_ORDERS[order]], dtype=np.uint8)


def labels_to_12(labels: UInt8[np.ndarray, "*shape"], order: LabelOrder) -> UInt8[np.ndarray, "*shape"]:
    """Convert labels of 19 classes to the 12 classes; the order is always named, for a wrong one looks plausible.

    Args:
        labels: uint8 ids 0..18 of any shape.
        order: whose ids they are, one of `LABEL_ORDERS`.

    Returns:
        uint8 ids into `CLASSES`, of the same shape.

    Raises:
        ValueError: if an id is above 18, or the order is unknown.
    """
    table = table_to_12(order)
    if labels.size and int(labels.max()) >= len(table):
        raise ValueError(
            f"{order} labels run from 0 to {len(table) - 1}, got {int(labels.max())}: another label order?"
        )
    merged: UInt8[np.ndarray, "*shape"] = table[labels]
    return merged


def celebamask_to_12(labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Convert a merged CelebAMask-HQ label map (19 classes) to the 12 classes; see `labels_to_12`."""
    return labels_to_12(labels, "celebamask_hq")


def face_mask(parsing: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels of the face region F = lip, eyebrows, eyes, nose, skin, mouth [S3POT 3.3]."""
    inside: Bool[np.ndarray, "h w"] = _IS_FACE[parsing]
    return inside
