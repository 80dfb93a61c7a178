"""A photograph with what was found drawn over it, to be looked at.

Vermilion = occlusion, blue = outline of the face: Okabe and Ito's colours, told apart by colour-blind readers too.
"""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

OCCLUSION, FACE = (213, 94, 0), (0, 114, 178)
_WHITE = (255, 255, 255)


def draw_overlay(
    image: UInt8[np.ndarray, "h w 3"], occlusion: Bool[np.ndarray, "h w"], faces: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Tint and outline the occlusion, outline the faces; returns a new picture of the same size.

    Args:
        image: RGB photograph.
        occlusion: True = occluded.
        faces: True = face; of all faces together.
    """
    drawn = image.copy()
    half = (drawn[occlusion].astype(np.uint16) + np.array(OCCLUSION, dtype=np.uint16)) // 2
    drawn[occlusion] = half.astype(np.uint8)
    width = max(1, round(max(image.shape[:2]) / 500))
    _outline(drawn, faces, FACE, width)
    _outline(drawn, occlusion, OCCLUSION, width)
    return drawn


def _outline(drawn: np.ndarray, region: np.ndarray, color: tuple[int, int, int], width: int) -> None:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    # A white edge: either colour is seen on skin, and on black cloth.
    cv2.drawContours(drawn, contours, -1, _WHITE, width + 2)
    cv2.drawContours(drawn, contours, -1, color, width)
