"""A face of which everything is known by eye: scikit-image's astronaut, aligned, with a drawn scarf over it.

Truth for the self-test must not come from the networks that are tested, so the outline of the face and a few places
were marked by hand. All marks are (x, y) in shares of the side of the crop.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from skimage import data

from s3pot.alignment import crop_face
from s3pot.composite.compositor import compose
from s3pot.composite.difficulty import PRESETS
from s3pot.composite.drawn import drawn_cutouts
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import CLASSES
from s3pot.seeding import generator

CROP = LocatedFace(x=221.1868, y=105.5134, side=156.6)
"""What `find_with_cascade` answers for this photograph; written down because the marks belong to this very crop."""
# fmt: off
_OUTLINE = (
    (0.278, 0.293), (0.410, 0.337), (0.547, 0.342), (0.684, 0.371), (0.791, 0.400), (0.815, 0.547), (0.811, 0.664),
    (0.781, 0.762), (0.713, 0.879), (0.625, 0.947), (0.508, 0.962), (0.410, 0.938), (0.322, 0.859), (0.269, 0.762),
    (0.244, 0.664), (0.234, 0.576), (0.256, 0.410),
)
NOSE_TIP = (0.518, 0.610)
MARKED_PLACES: tuple[tuple[str, float, float], ...] = (
    ("eyes", 0.381, 0.467), ("eyes", 0.662, 0.482), ("nose", *NOSE_TIP), ("lip", 0.513, 0.793),
    ("skin", 0.322, 0.586), ("skin", 0.742, 0.586), ("skin", 0.498, 0.898),
    ("hair", 0.586, 0.244), ("hair", 0.166, 0.371), ("hair", 0.908, 0.410),
    ("below_face", 0.674, 0.947), ("background", 0.078, 0.684), ("background", 0.068, 0.068),
)
"""Class and place of what can be told by eye."""
# fmt: on
_SCARF = "scarves/grey"


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownFace:
    """The face and what is known about it; the side S is that of the picture.

    Attributes:
        clean: (S, S, 3) uint8 RGB, aligned.
        occluded: (S, S, 3) uint8 RGB, the same with a scarf over the face.
        scarf: (S, S) bool, exactly where the scarf lies.
        outline: (S, S) bool, the face as outlined by hand.
    """

    clean: UInt8[np.ndarray, "s s 3"]
    occluded: UInt8[np.ndarray, "s s 3"]
    scarf: Bool[np.ndarray, "s s"]
    outline: Bool[np.ndarray, "s s"]


def known_face(size: int) -> KnownFace:
    """Draw it.

    Args:
        size: side in pixels.
    """
    clean = crop_face(data.astronaut(), CROP, size).image
    outline = np.zeros((size, size), dtype=np.uint8)
    cv2.fillPoly(outline, [(np.array(_OUTLINE) * size).round().astype(np.int32)], CLASSES.index("skin"))
    scarf = next(cutout for cutout in drawn_cutouts() if cutout.id == _SCARF)
    # The easy preset casts no shadow: beside the scarf the two pictures are the same.
    composite = compose(clean, outline, [scarf], generator(0, "known_face", "scarf"), PRESETS["easy"])
    return KnownFace(clean=clean, occluded=composite.image, scarf=composite.occluder, outline=outline > 0)


def share_of_places(parsing: UInt8[np.ndarray, "s s"]) -> float:
    """Return the share of `MARKED_PLACES` whose class a parsing (S, S) of the clean picture names right, in [0, 1]."""
    size = len(parsing)
    seen = [CLASSES[parsing[int(y * size), int(x * size)]] == name for name, x, y in MARKED_PLACES]
    return sum(seen) / len(seen)


def middle_of(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int]:
    """Return the place (x, y) inside a mask that is farthest from its outline."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, col = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(col), int(row)
