"""Occluders that need no download: drawn here, or cut from photographs that scikit-image ships.

For the demo and the tests. Shapes are drawn four times too large and shrunk, which gives soft alpha edges; shading and
grain keep them from being flat colours that any threshold would find.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8
from skimage import data

from s3pot.composite.cutouts import Cutout

_SIDE = 280
_OVERSAMPLING = 4
_Canvas = UInt8[np.ndarray, "h w"]


def drawn_cutouts() -> list[Cutout]:
    """Return sunglasses, a face mask, a microphone, a scarf, a mug and a cat, as RGBA cut-outs."""
    coffee, bricks, gravel = data.coffee(), data.brick(), data.gravel()
    return [
        _cutout("sunglasses", "aviator", _sunglasses, _plain((28, 26, 30))),
        _cutout("masks", "surgical", _surgical_mask, _pleats((142, 188, 206))),
        _cutout("objects", "microphone", _microphone, _plain((58, 58, 62))),
        _cutout("objects", "mug", _mug, cv2.resize(coffee, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)),
        _cutout("scarves", "knitted", _scarf, _tinted(bricks, (176, 60, 66))),
        _cutout("scarves", "grey", _scarf, _tinted(gravel, (120, 126, 138))),
        _cutout("objects", "cat", _oval, cv2.resize(data.chelsea()[:, 60:360], (_SIDE, _SIDE))),
    ]


def _cutout(kind: str, name: str, draw: Callable[[_Canvas], None], color: UInt8[np.ndarray, "h w 3"]) -> Cutout:
    canvas = np.zeros((_SIDE * _OVERSAMPLING, _SIDE * _OVERSAMPLING), dtype=np.uint8)
    draw(canvas)
    alpha = cv2.resize(canvas, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    rows, cols = np.nonzero(alpha)
    box = (slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1))
    rgba = np.dstack([_shaded(color, alpha), alpha])[box]
    return Cutout(id=f"{kind}/{name}", kind=kind, rgba=np.ascontiguousarray(rgba))


def _shaded(color: np.ndarray, alpha: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Darken toward the outline and the lower right, as under a soft lamp, and add grain."""
    depth = cv2.distanceTransform((alpha > 127).astype(np.uint8), cv2.DIST_L2, 5)
    edge = 0.65 + 0.35 * np.clip(depth / 14.0, 0, 1)
    across = np.linspace(1.1, 0.85, _SIDE)
    light = edge * (0.5 * (across[None, :] + across[:, None]))
    grain = np.random.default_rng(0).normal(0, 4.0, size=(_SIDE, _SIDE, 1))
    return np.clip(color * light[..., None] + grain, 0, 255).astype(np.uint8)


def _plain(color: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    return np.broadcast_to(np.array(color, dtype=np.uint8), (_SIDE, _SIDE, 3)).copy()


def _pleats(color: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    rows = 1.0 - 0.12 * (np.cos(np.arange(_SIDE) / _SIDE * 2 * np.pi * 7) > 0.8)
    return np.clip(_plain(color) * rows[:, None, None], 0, 255).astype(np.uint8)


def _tinted(texture: UInt8[np.ndarray, "_ _"], color: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    gray = cv2.resize(texture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    relief = 0.55 + 0.9 * (gray - gray.min()) / max(1.0, float(np.ptp(gray)))
    return np.clip(relief[..., None] * np.array(color), 0, 255).astype(np.uint8)


def _at(*points: tuple[float, float]) -> np.ndarray:
    """Turn shares of the side into pixels of the large canvas."""
    return (np.array(points) * _SIDE * _OVERSAMPLING).astype(np.int32)


def _ellipse(canvas: _Canvas, center: tuple[float, float], axes: tuple[float, float]) -> None:
    (middle,), (half,) = _at(center), _at(axes)
    cv2.ellipse(canvas, middle.tolist(), half.tolist(), 0, 0, 360, 255, -1)


def _sunglasses(canvas: _Canvas) -> None:
    for center in (0.26, 0.74):
        _ellipse(canvas, (center, 0.5), (0.2, 0.16))
    cv2.fillPoly(canvas, [_at((0.4, 0.4), (0.6, 0.4), (0.6, 0.45), (0.4, 0.45))], 255)
    cv2.fillPoly(canvas, [_at((0.01, 0.38), (0.12, 0.4), (0.12, 0.46), (0.01, 0.42))], 255)
    cv2.fillPoly(canvas, [_at((0.99, 0.38), (0.88, 0.4), (0.88, 0.46), (0.99, 0.42))], 255)


def _surgical_mask(canvas: _Canvas) -> None:
    outline = _at((0.06, 0.3), (0.5, 0.2), (0.94, 0.3), (0.9, 0.6), (0.7, 0.82), (0.5, 0.88), (0.3, 0.82), (0.1, 0.6))
    cv2.fillPoly(canvas, [outline], 255)


def _microphone(canvas: _Canvas) -> None:
    _ellipse(canvas, (0.5, 0.25), (0.17, 0.2))
    cv2.fillPoly(canvas, [_at((0.4, 0.42), (0.6, 0.42), (0.56, 0.98), (0.44, 0.98))], 255)


def _mug(canvas: _Canvas) -> None:
    cv2.fillPoly(canvas, [_at((0.2, 0.15), (0.75, 0.15), (0.72, 0.85), (0.23, 0.85))], 255)
    (center,), (axes,) = _at((0.77, 0.48)), _at((0.14, 0.2))
    cv2.ellipse(canvas, center.tolist(), axes.tolist(), 0, 0, 360, 255, int(0.06 * _SIDE * _OVERSAMPLING))


def _scarf(canvas: _Canvas) -> None:
    outline = _at(
        (0.02, 0.35), (0.3, 0.28), (0.55, 0.32), (0.98, 0.25), (0.96, 0.72), (0.6, 0.8), (0.25, 0.74), (0.04, 0.8)
    )
    cv2.fillPoly(canvas, [outline], 255)


def _oval(canvas: _Canvas) -> None:
    _ellipse(canvas, (0.5, 0.5), (0.42, 0.46))
