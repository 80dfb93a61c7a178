"""Pictures of the stages of one image: pure functions from arrays to arrays, no files.

Every picture of an image is a *panel* in the frame of its aligned face crop, `PANEL_SIDE` pixels on the long side, so
that the panels of a row can be compared point by point. What lives in the original frame (photograph, masks, truth) is
warped straight to the panel; what lives in the aligned frame (parsing) or on the token grid (similarity, prompts) is
enlarged. Padding of the model frame lies outside the panel.

Colours follow one meaning throughout and differ for colour-blind readers too (Okabe and Ito): vermilion = occlusion as
predicted or prompted, blue = face prompts, green = truth. Prompts differ in shape as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from s3pot.parsing.classes import CLASSES, face_mask

Picture = npt.NDArray[np.uint8]  # (H, W, 3) RGB
BoolMask = npt.NDArray[np.bool_]  # (H, W)
Color = tuple[int, int, int]

PANEL_SIDE = 320  # shown at about half of it: sharp on dense screens and when enlarged
OCCLUSION: Color = (213, 94, 0)
TRUTH: Color = (0, 158, 115)
FACE: Color = (0, 114, 178)
BLANK: Color = (225, 225, 225)  # no colour of the similarity scale
_WHITE: Color = (255, 255, 255)
_DARK: Color = (25, 25, 25)
# In the order they are drawn: a part lies over what surrounds it. Background has no outline.
CLASS_COLORS: dict[str, Color] = {
    "hair": (150, 110, 255),
    "below_face": (90, 150, 255),
    "ears": (0, 200, 140),
    "skin": (255, 190, 0),
    "eyebrows": (190, 240, 60),
    "eyes": (0, 220, 255),
    "nose": (255, 255, 255),
    "lip": (255, 60, 120),
    "mouth": (255, 195, 220),
    "eye_glass": (0, 0, 0),
    "ear_rings": (190, 120, 40),
}
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelFrame:
    """Where the panel of one image lies.

    Attributes:
        size: (height, width) of the panel in pixels.
        scale: panel pixels per pixel of the aligned crop.
        to_original: (2, 3) affine map from panel to original pixels (x, y).
    """

    size: tuple[int, int]
    scale: float
    to_original: npt.NDArray[np.float64]


def panel_frame(aligned_size: tuple[int, int], to_original: npt.NDArray[np.float64]) -> PanelFrame:
    """Frame the aligned crop.

    Args:
        aligned_size: (height, width) of the crop.
        to_original: (2, 3) affine map from crop to original pixels, as the manifest holds it.
    """
    scale = PANEL_SIDE / max(aligned_size)
    height, width = (max(1, round(extent * scale)) for extent in aligned_size)
    # Pixel centres: panel pixel 0 lies half a panel pixel inside the crop.
    offset = 0.5 / scale - 0.5
    to_aligned = np.array([[1 / scale, 0, offset], [0, 1 / scale, offset], [0, 0, 1]])
    return PanelFrame(size=(height, width), scale=scale, to_original=np.asarray(to_original) @ to_aligned)


def whole_picture_frame(original_size: tuple[int, int]) -> PanelFrame:
    """Frame a whole photograph, for images without an aligned face."""
    return panel_frame(original_size, np.eye(2, 3))


def warp_picture(picture: Picture, frame: PanelFrame) -> Picture:
    """Bring a photograph from the original frame to the panel; its border is mirrored, as in the aligned crop."""
    return _warp(picture, frame, cv2.BORDER_REFLECT_101)


def warp_mask(original: BoolMask, frame: PanelFrame) -> BoolMask:
    """Bring a mask from the original frame to the panel; False outside the photograph."""
    return _warp(original.astype(np.uint8) * 255, frame, cv2.BORDER_CONSTANT) > 127


def enlarge_mask(aligned: BoolMask, frame: PanelFrame) -> BoolMask:
    """Bring a mask from the aligned frame to the panel, with a smooth edge."""
    soft = cv2.resize(aligned.astype(np.float32), frame.size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft > 0.5)


def blank_picture(frame: PanelFrame) -> Picture:
    """Return an empty panel, to draw on when the photograph is missing."""
    return np.full((*frame.size, 3), BLANK, dtype=np.uint8)


def resize_picture(aligned: Picture, frame: PanelFrame) -> Picture:
    """Bring a picture from the aligned frame (the reference) to the panel."""
    return np.asarray(cv2.resize(aligned, frame.size[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def draw_parsing(picture: Picture, parsing: npt.NDArray[np.uint8], frame: PanelFrame) -> Picture:
    """Outline the classes of a parsing (aligned frame) over the picture (panel)."""
    panel = _muted(picture, 0.35)
    for name, color in CLASS_COLORS.items():
        part = enlarge_mask(parsing == CLASSES.index(name), frame)
        _outline(panel, part, color, width=2, halo=_WHITE if sum(color) == 0 else _DARK)
    return panel


def draw_similarity(
    similarity: npt.NDArray[np.float32], parsing: npt.NDArray[np.uint8], frame: PanelFrame, limits: tuple[float, float]
) -> Picture:
    """Draw the similarity of every token as a square of its colour, with the outline of the face.

    Args:
        similarity: (h*w,) cosine of image and reference tokens.
        parsing: aligned frame.
        frame: panel of the image.
        limits: values of the two ends of the colour scale.

    Raises:
        ValueError: if the tokens form no square grid.
    """
    side = grid_side(similarity.size)
    values = np.where(valid_tokens(side, frame.size), similarity.reshape(side, side), np.nan)
    colored = similarity_colors(values, limits)
    colored[np.isnan(values)] = BLANK
    whole = cv2.resize(colored, (PANEL_SIDE, PANEL_SIDE), interpolation=cv2.INTER_NEAREST)
    panel = np.ascontiguousarray(whole[: frame.size[0], : frame.size[1]])
    _outline(panel, enlarge_mask(face_mask(parsing), frame), _WHITE, width=2, halo=_DARK)
    return panel


def similarity_colors(values: npt.NDArray[np.floating], limits: tuple[float, float]) -> Picture:
    """Colour a (H, W) map: dark blue at the lower limit, yellow at the upper one (viridis)."""
    low, high = limits
    share = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-9), 0.0, 1.0)
    colored = cv2.applyColorMap(np.round(share * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(colored[..., ::-1])


def draw_prompts(
    picture: Picture,
    occlusion_prompts: Sequence[int],
    face_prompts: Sequence[int],
    tokens: int,
) -> Picture:
    """Mark occlusion prompts as filled vermilion discs and face prompts as open blue squares.

    Args:
        picture: panel.
        occlusion_prompts: full-grid ids.
        face_prompts: full-grid ids.
        tokens: number of tokens of the grid, h*w.

    Raises:
        ValueError: if the tokens form no square grid.
    """
    side = grid_side(tokens)
    cell = PANEL_SIDE / side
    panel = _muted(picture, 0.6)
    one = 1 << _SUBPIXEL_BITS

    def center_xy(token: int) -> tuple[float, float]:
        return (token % side + 0.5) * cell - 0.5, (token // side + 0.5) * cell - 0.5

    half = 0.24 * cell
    for x, y in map(center_xy, face_prompts):
        corners = [(round((x + sign * half) * one), round((y + sign * half) * one)) for sign in (-1, 1)]
        cv2.rectangle(panel, *corners, FACE, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for radius, color in ((0.42 * cell, _WHITE), (0.32 * cell, OCCLUSION)):
        for x, y in map(center_xy, occlusion_prompts):
            center = (round(x * one), round(y * one))
            cv2.circle(panel, center, round(radius * one), color, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    return panel


def draw_mask(picture: Picture, mask: BoolMask, inside: BoolMask, color: Color) -> Picture:
    """Tint and outline a mask over the picture; what the metric does not count is outlined only.

    Args:
        picture: panel.
        mask: (H, W) in the panel.
        inside: (H, W) region the mask is clipped to by the metric.
        color: of tint and outline.
    """
    panel = _muted(picture, 0.35)
    counted = mask & inside
    panel[counted] = (0.5 * panel[counted] + 0.5 * np.array(color)).astype(np.uint8)
    _outline(panel, mask, color, width=2)
    _outline(panel, counted, color, width=3)
    return panel


def grid_side(tokens: int) -> int:
    """Return h = w of a token grid.

    Raises:
        ValueError: if the tokens form no square grid.
    """
    side = math.isqrt(tokens)
    if tokens == 0 or side * side != tokens:
        raise ValueError(f"expected the tokens of a square grid, got {tokens}")
    return side


def valid_tokens(side: int, panel_size: tuple[int, int]) -> BoolMask:
    """Mark the tokens (side, side) whose centre lies in the picture rather than in padding."""
    centers = (np.arange(side) + 0.5) * PANEL_SIDE / side
    return np.asarray((centers < panel_size[0])[:, None] & (centers < panel_size[1])[None, :])


def _warp(values: npt.NDArray[np.uint8], frame: PanelFrame, border: int) -> npt.NDArray[np.uint8]:
    to_original = frame.to_original
    # Whole-number shrinking by areas first: a panel of a large photograph would otherwise pick single pixels.
    shrink = int(min(math.sqrt(abs(np.linalg.det(to_original[:, :2]))), *values.shape[:2]))
    if shrink > 1:
        height, width = values.shape[0] // shrink, values.shape[1] // shrink
        values = cv2.resize(values[: height * shrink, : width * shrink], (width, height), interpolation=cv2.INTER_AREA)
        to_original = to_original / shrink
        to_original[:, 2] += 0.5 / shrink - 0.5
    warped = cv2.warpAffine(
        values, to_original, frame.size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )
    return np.asarray(warped, dtype=np.uint8)


def _muted(picture: Picture, share: float) -> Picture:
    """Take colour and contrast back, so that what is drawn on top stands out whatever the skin."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    mixed = picture * (1 - share) + grey * share
    return np.asarray(mixed * (1 - 0.3 * share) + 255 * 0.15 * share, dtype=np.uint8)


def _outline(panel: Picture, mask: BoolMask, color: Color, *, width: int, halo: Color | None = None) -> None:
    if not mask.any():
        return
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if halo is not None:
        cv2.drawContours(panel, contours, -1, halo, width + 2, cv2.LINE_AA)
    cv2.drawContours(panel, contours, -1, color, width, cv2.LINE_AA)
