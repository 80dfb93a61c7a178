"""Synthetic faces and occluders: drawn ellipses with an exact parsing, so that no test needs a photograph."""

import cv2
import numpy as np
from jaxtyping import UInt8

from s3pot.composite.cutouts import Cutout
from s3pot.parsing.classes import CLASSES
from s3pot.pretrain.faces import FaceBank

cv2.setNumThreads(1)  # the pictures are tiny, and CI has two cores

# Each part as (class, centre, half axes) in shares of the side; later ones are painted over earlier ones.
PARTS: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...] = (
    ("below_face", (0.50, 0.95), (0.22, 0.20)),
    ("hair", (0.50, 0.44), (0.38, 0.40)),
    ("ears", (0.20, 0.52), (0.05, 0.09)),
    ("ears", (0.80, 0.52), (0.05, 0.09)),
    ("skin", (0.50, 0.52), (0.29, 0.37)),
    ("eyebrows", (0.38, 0.37), (0.08, 0.02)),
    ("eyebrows", (0.62, 0.37), (0.08, 0.02)),
    ("eyes", (0.38, 0.44), (0.06, 0.03)),
    ("eyes", (0.62, 0.44), (0.06, 0.03)),
    ("nose", (0.50, 0.56), (0.05, 0.09)),
    ("lip", (0.50, 0.74), (0.11, 0.05)),
    ("mouth", (0.50, 0.74), (0.07, 0.02)),
)
COLORS: dict[str, tuple[int, int, int]] = {
    "background": (90, 120, 150),
    "lip": (170, 80, 80),
    "eyebrows": (70, 50, 40),
    "eyes": (60, 70, 90),
    "hair": (60, 40, 30),
    "nose": (215, 165, 140),
    "skin": (205, 155, 130),
    "ears": (195, 140, 120),
    "below_face": (190, 140, 115),
    "mouth": (120, 40, 50),
}


def draw_face(size: int = 128, seed: int = 0) -> tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s"]]:
    """Draw one face, level and centred.

    Args:
        size: side in pixels.
        seed: faces of other seeds have other colours.

    Returns:
        (S, S, 3) uint8 RGB, and its (S, S) uint8 parsing of the 12 classes.
    """
    rng = np.random.default_rng(seed)
    tint = rng.uniform(0.8, 1.15, size=3)
    parsing = np.zeros((size, size), dtype=np.uint8)
    for name, (x, y), (half_width, half_height) in PARTS:
        center = round(x * size), round(y * size)
        axes = max(1, round(half_width * size)), max(1, round(half_height * size))
        cv2.ellipse(parsing, center, axes, 0, 0, 360, CLASSES.index(name), -1)
    palette = np.array([COLORS.get(name, (0, 0, 0)) for name in CLASSES], dtype=np.float32)
    light = np.linspace(0.9, 1.1, size, dtype=np.float32)[None, :, None]
    return np.clip(palette[parsing] * tint * light, 0, 255).astype(np.uint8), parsing


def draw_faces(number: int = 3, size: int = 64) -> FaceBank:
    """Draw a bank of faces with different colours."""
    drawn = [draw_face(size, seed) for seed in range(number)]
    return FaceBank(
        ids=tuple(f"face{row}" for row in range(number)),
        images=np.stack([image for image, _ in drawn]),
        parsings=np.stack([parsing for _, parsing in drawn]),
    )


def make_cutout(
    kind: str = "objects",
    name: str = "disc",
    color: tuple[int, int, int] = (20, 60, 220),
    size: tuple[int, int] = (90, 90),
) -> Cutout:
    """Draw an opaque ellipse of one colour, `size` = (height, width), with a soft edge."""
    height, width = size
    rgba = np.zeros((height, width, 4), dtype=np.uint8)
    rgba[..., :3] = color
    alpha = np.zeros((height, width), dtype=np.uint8)
    center, axes = (width // 2, height // 2), (width // 2 - 1, height // 2 - 1)
    cv2.ellipse(alpha, center, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    rgba[..., 3] = alpha
    return Cutout(id=f"{kind}/{name}", kind=kind, rgba=rgba)


def make_cutouts() -> list[Cutout]:
    """Draw one cut-out of each of four kinds."""
    return [
        make_cutout("hands", "palm", (200, 150, 130), (120, 80)),
        make_cutout("sunglasses", "dark", (20, 20, 20), (40, 120)),
        make_cutout("masks", "blue", (120, 170, 220), (80, 110)),
        make_cutout("objects", "disc"),
    ]
