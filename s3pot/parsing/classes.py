"""The 12 parsing classes of the chain and how other label orders map onto them.

`parsing` is (H, W) uint8 with ids into `CLASSES`. The face region F of [S3POT 3.3] is lip, eyebrows, eyes, nose, skin
and mouth: hair, ears, neck and worn glasses are not part of it.
"""

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

# CelebAMask-HQ order: background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r
# neck_l neck cloth. Hat and cloth are background: neither belongs to the head, and both can lie over a face.
_CELEBAMASK_NAMES = (
    "background skin nose eye_glass eyes eyes eyebrows eyebrows ears ears mouth lip lip hair background ear_rings"
    " below_face below_face background"
).split()
# What CelebAMask-HQ names and the 12 classes fold into the background, or into glasses of any kind.
CELEBAMASK_GLASSES, CELEBAMASK_HAT = 3, 14
_CELEBAMASK_TO_12 = np.array([CLASSES.index(name) for name in _CELEBAMASK_NAMES], dtype=np.uint8)
_IS_FACE = np.isin(np.arange(256), FACE_CLASSES)


def celebamask_to_12(labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Convert a merged CelebAMask-HQ label map (19 classes) to the 12 classes.

    Args:
        labels: (H, W) uint8 ids 0..18 in CelebAMask-HQ order.

    Returns:
        (H, W) uint8 ids into `CLASSES`.

    Raises:
        ValueError: if an id is above 18.
    """
    if labels.size and int(labels.max()) >= len(_CELEBAMASK_TO_12):
        raise ValueError(f"CelebAMask-HQ labels run from 0 to 18, got {int(labels.max())}: another label order?")
    merged: UInt8[np.ndarray, "h w"] = _CELEBAMASK_TO_12[labels]
    return merged


def face_mask(parsing: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels of the face region F = lip, eyebrows, eyes, nose, skin, mouth [S3POT 3.3]."""
    inside: Bool[np.ndarray, "h w"] = _IS_FACE[parsing]
    return inside
