"""Where an occluder plausibly lies: an affine map from cut-out pixels into the face, by kind and face part.

Frame: `aligned`; coordinates are (x, y) in pixels of the face picture.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from s3pot.composite.difficulty import STANDARD, Difficulty
from s3pot.parsing.classes import CLASSES, face_mask


@dataclass(frozen=True, kw_only=True)
class FaceLayout:
    """Landmarks read off a parsing, in pixels (x, y) of the aligned frame.

    Attributes:
        center: centre of the face region's box.
        size: (width, height) of the face region's box.
        eyes: middle of the eyes (or where they are expected).
        mouth: middle of lips and mouth (or where they are expected).
        roll: angle of the line through the eyes, radians, 0 = level.
    """

    center: tuple[float, float]
    size: tuple[float, float]
    eyes: tuple[float, float]
    mouth: tuple[float, float]
    roll: float


def face_layout(parsing: UInt8[np.ndarray, "h w"]) -> FaceLayout:
    """Read the layout off a parsing.

    Raises:
        ValueError: if the parsing has no face region.
    """
    rows, cols = np.nonzero(face_mask(parsing))
    if rows.size == 0:
        raise ValueError("the parsing has no face region: nothing to place an occluder on")
    left, right = np.percentile(cols, [1, 99])
    top, bottom = np.percentile(rows, [1, 99])
    width, height = float(right - left + 1), float(bottom - top + 1)
    center = (float(left + right) / 2, float(top + bottom) / 2)
    eyes, roll = _eyes(parsing, (center[0], float(top) + 0.35 * height))
    mouth = _centroid(np.isin(parsing, [CLASSES.index("lip"), CLASSES.index("mouth")]))
    return FaceLayout(
        center=center,
        size=(width, height),
        eyes=eyes,
        mouth=mouth or (center[0], float(top) + 0.8 * height),
        roll=roll,
    )


def _centroid(where: np.ndarray) -> tuple[float, float] | None:
    rows, cols = np.nonzero(where)
    return (float(cols.mean()), float(rows.mean())) if rows.size >= 8 else None


def _eyes(parsing: np.ndarray, expected: tuple[float, float]) -> tuple[tuple[float, float], float]:
    where = parsing == CLASSES.index("eyes")
    middle = _centroid(where)
    if middle is None:
        return expected, 0.0
    columns = np.arange(where.shape[1])
    left, right = _centroid(where & (columns < middle[0])), _centroid(where & (columns >= middle[0]))
    if left is None or right is None or right[0] - left[0] < 8:
        return middle, 0.0
    roll = float(np.arctan2(right[1] - left[1], right[0] - left[0]))
    return ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2), roll


def place(
    kind: str,
    cutout_size: tuple[int, int],
    layout: FaceLayout,
    rng: np.random.Generator,
    difficulty: Difficulty = STANDARD,
) -> Float[np.ndarray, "2 3"]:
    """Draw an affine map from cut-out pixels to face pixels.

    Args:
        kind: occluder kind; unknown kinds are placed anywhere on the face like objects.
        cutout_size: (height, width) of the cut-out.
        layout: landmarks of the face.
        rng: source of every draw.
        difficulty: sizes of hands and objects.

    Returns:
        (2, 3) float32 matrix for `cv2.warpAffine`.
    """
    face_width, face_height = layout.size
    height, width = cutout_size
    eyes, mouth = np.array(layout.eyes), np.array(layout.mouth)
    down = (mouth - eyes) / max(float(np.linalg.norm(mouth - eyes)), 1.0)
    jitter = rng.normal(0.0, 0.02, size=2) * face_width
    roll = layout.roll
    match kind:
        case "sunglasses" | "spectacles":
            center, scale, angle = (
                eyes + jitter,
                face_width * rng.uniform(0.95, 1.2) / width,
                roll + rng.normal(0, 0.03),
            )
        case "hats":
            # The canvas is centred between the wearer's eyes (harvest.HAT_CANVAS): pulled down, it covers a forehead.
            center = eyes + down * face_height * rng.uniform(0.0, 0.2) + jitter
            scale, angle = 2.0 * face_width * rng.uniform(0.95, 1.15) / width, roll + rng.normal(0, 0.04)
        case "masks":
            center = mouth - down * face_height * rng.uniform(-0.02, 0.08) + jitter
            scale, angle = face_width * rng.uniform(0.95, 1.15) / width, roll + rng.normal(0, 0.04)
        case "scarves":
            # A scarf hangs: its upper edge lies between nose and chin, however long the cut-out is.
            scale, angle = face_width * rng.uniform(1.1, 1.6) / width, roll + rng.normal(0, 0.1)
            upper_edge = mouth + down * face_height * rng.uniform(-0.25, 0.1) + jitter
            center = upper_edge + down * scale * height / 2
        case "hands":
            # A hand reaches in from below or from a side; its size is about that of the face.
            toward = rng.uniform(-0.5, 0.5), rng.uniform(-0.15, 0.45)
            center = np.array(layout.center) + np.array([toward[0] * face_width, toward[1] * face_height])
            scale = face_height * rng.uniform(*difficulty.hand_scale) / max(height, width)
            angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.25 else rng.normal(0, 0.6)
        case _:
            toward = rng.uniform(-0.45, 0.45), rng.uniform(-0.4, 0.45)
            center = np.array(layout.center) + np.array([toward[0] * face_width, toward[1] * face_height])
            scale = face_width * rng.uniform(*difficulty.object_scale) / max(height, width)
            angle = rng.normal(0, 0.5)
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.array([[cos * mirrored, -sin], [sin * mirrored, cos]])
    offset = center - linear @ np.array([(width - 1) / 2, (height - 1) / 2])
    return np.concatenate([linear, offset[:, None]], axis=1).astype(np.float32)
