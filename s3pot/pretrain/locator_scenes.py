"""Photographs for the training of the face locator, put together so that the crop of every face is known exactly.

A labelled face or a portrait, with occluders on it or without, is turned, zoomed and moved onto a canvas: a natural
photograph or the blurred colours of its own surroundings. Edges are soft or follow the outline of the person, so that
the seam does not tell where the crop ends. Everything derives from (seed, stage, index).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from s3pot.composite.compositor import compose
from s3pot.composite.cutouts import Cutout
from s3pot.images import read_image
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import CLASSES, face_mask
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import FaceBank
from s3pot.pretrain.material import Material
from s3pot.pretrain.portraits import Portrait, list_portraits, load_portraits
from s3pot.pretrain.samples import draw_cutout
from s3pot.seeding import generator

NOBODY_SHARE, PORTRAIT_SHARE, ALIGNED_SHARE, PAIR_SHARE = 0.12, 0.4, 0.12, 0.1
OCCLUDED_SHARE = 0.6
SMALLEST, LARGEST = 0.25, 1.6
STEEPEST = math.radians(25)
# A labelled face is rendered with this side and continued by so much on every side, for hats and arms.
_FACE_SIDE, _MARGIN = 128, 56


@dataclass(frozen=True, kw_only=True)
class SceneMaterial:
    """What scenes are made of.

    Attributes:
        faces: aligned labelled faces.
        portraits: photographs of people with a known crop; may be none.
        cutouts: occluders of the same fold.
        backgrounds: (H, W, 3) uint8 RGB photographs without people.
    """

    faces: FaceBank
    portraits: Sequence[Portrait]
    cutouts: Sequence[Cutout]
    backgrounds: Sequence[UInt8[np.ndarray, "_ _ 3"]]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture as the locator gets it.

    Attributes:
        image: (S, S, 3) uint8 RGB, letterboxed.
        faces: crops of all faces in it, in its pixels.
    """

    image: UInt8[np.ndarray, "s s 3"]
    faces: tuple[LocatedFace, ...]


def load_scene_material(material: Material, parser: FaceParser, with_people: Collection[str]) -> SceneMaterial:
    """Add portraits and backgrounds to the material of all trainings.

    Args:
        material: faces and cut-outs; `portraits` and `natural/train` lie in its folder.
        parser: sees eyes and mouths of the portraits.
        with_people: stems of natural photographs with people, which are no backgrounds.

    Raises:
        FileNotFoundError: without portraits or natural photographs.
    """
    return SceneMaterial(
        faces=material.faces,
        portraits=load_portraits(list_portraits(material.data / "portraits"), parser),
        cutouts=material.cutouts,
        backgrounds=list(read_backgrounds(material.data / "natural" / "train", with_people).values()),
    )


def read_backgrounds(root: Path, with_people: Collection[str]) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """Read the photographs `root/images/*.jpg` without those that are named, by stem.

    Raises:
        FileNotFoundError: if nothing remains.
    """
    paths = [path for path in sorted((root / "images").glob("*.jpg")) if path.stem not in with_people]
    if not paths:
        raise FileNotFoundError(f"no photographs without people in {root}/images/*.jpg")
    return {path.stem: read_image(path) for path in paths}


def draw_scene(material: SceneMaterial, *, size: int, seed: int, stage: str, index: int) -> Scene:
    """Draw scene `index` of a stage; its side is `size` pixels."""
    rng = generator(seed, stage, str(index))
    aligned = rng.random() < ALIGNED_SHARE
    shape = (size, size) if aligned else _canvas_shape(size, rng)
    canvas, faces = _background(material, shape, rng), list[LocatedFace]()
    if not aligned and rng.random() < NOBODY_SHARE:
        for _ in range(int(rng.integers(3))):
            canvas = _scatter(canvas, draw_cutout(material.cutouts, rng), rng)
    else:
        number = 2 if not aligned and rng.random() < PAIR_SHARE else 1
        for _ in range(number):
            subject = _draw_subject(material, rng)
            place = _draw_place(shape, faces, number, rng) if not aligned else _nearly_all(size, rng)
            if place is not None:
                canvas = _lay(canvas, subject, place, rng, alone=number == 1)
                faces.append(place)
    if rng.random() < 0.5:
        canvas = canvas[:, ::-1]
        faces = [replace(face, x=shape[1] - 1 - face.x, roll=-face.roll) for face in faces]
    image = np.full((size, size, 3), 127, dtype=np.uint8)
    image[: shape[0], : shape[1]] = _photograph(canvas, rng)
    return Scene(image=image, faces=tuple(faces))


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A person to lay onto a canvas: colours 0..255, opacity 0..1, and where the crop of the face lies in them."""

    color: Float[np.ndarray, "h w 3"]
    alpha: Float[np.ndarray, "h w"]
    face: LocatedFace


def _draw_subject(material: SceneMaterial, rng: np.random.Generator) -> _Subject:
    if material.portraits and rng.random() < PORTRAIT_SHARE:
        portrait = material.portraits[int(rng.integers(len(material.portraits)))]
        image, parsing, face = portrait.image, portrait.parsing, portrait.face
        alpha = _soft_box(image.shape[:2], 0, rng.uniform(0.0, 0.12) * min(image.shape[:2]))
    else:
        image, parsing = _extended_face(material.faces, rng)
        side = image.shape[0]
        face = LocatedFace(x=(side - 1) / 2, y=(side - 1) / 2, side=float(_FACE_SIDE))
        fade = rng.uniform(4.0, 0.5 * _MARGIN)
        alpha = _soft_box(image.shape[:2], int(rng.uniform(0.3, 1.0) * (_MARGIN - fade)), fade)
        if rng.random() < 0.35:
            alpha = np.minimum(alpha, _outline(parsing, rng))
    if rng.random() < OCCLUDED_SHARE and face_mask(parsing).mean() > 0.01:
        number = 2 if rng.random() < 0.2 else 1
        composite = compose(image, parsing, [draw_cutout(material.cutouts, rng) for _ in range(number)], rng)
        image = composite.image
        alpha = np.maximum(alpha, cv2.GaussianBlur(composite.occluder.astype(np.float32), (0, 0), 1.0))
    return _Subject(color=image.astype(np.float32), alpha=alpha, face=face)


def _extended_face(faces: FaceBank, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw an aligned face with a margin around it, which fades into blurred colours."""
    row = int(rng.integers(len(faces)))
    image = cv2.resize(faces.images[row], (_FACE_SIDE, _FACE_SIDE), interpolation=cv2.INTER_AREA)
    parsing = cv2.resize(faces.parsings[row], (_FACE_SIDE, _FACE_SIDE), interpolation=cv2.INTER_NEAREST)
    # Clothes go on below; a mirror image would show the mouth once more.
    image = cv2.copyMakeBorder(image, 0, _MARGIN, 0, 0, cv2.BORDER_REPLICATE)
    image = cv2.copyMakeBorder(image, _MARGIN, 0, _MARGIN, _MARGIN, cv2.BORDER_REFLECT_101)
    parsing = cv2.copyMakeBorder(parsing, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT)
    sharp = _soft_box(image.shape[:2], _MARGIN - 16, 16.0)[..., None]
    blurred = cv2.GaussianBlur(image, (0, 0), 10.0)
    return (sharp * image + (1 - sharp) * blurred + 0.5).astype(np.uint8), parsing


def _soft_box(shape: tuple[int, int], margin: int, fade: float) -> Float[np.ndarray, "h w"]:
    """1 inside, falling to 0 over `fade` pixels up to `margin` pixels before the edges of the picture."""
    sides = []
    for extent in shape:
        places = np.arange(extent, dtype=np.float32)
        to_edge = np.minimum(places, extent - 1 - places) + 1.0 - margin
        sides.append(np.clip(to_edge / max(fade, 1.0), 0.0, 1.0))
    return np.minimum(sides[0][:, None], sides[1][None, :])


def _outline(parsing: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Opacity of the person alone, cut out roughly."""
    person = (parsing != CLASSES.index("background")).astype(np.uint8)
    reach = int(rng.integers(1, 6))
    grown = cv2.dilate(person, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return cv2.GaussianBlur(grown.astype(np.float32), (0, 0), rng.uniform(0.7, 3.0))


def _canvas_shape(size: int, rng: np.random.Generator) -> tuple[int, int]:
    short = size if rng.random() < 0.4 else int(rng.uniform(0.55, 1.0) * size)
    return (size, short) if rng.random() < 0.5 else (short, size)


def _background(material: SceneMaterial, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    photograph = material.backgrounds[int(rng.integers(len(material.backgrounds)))]
    least = max(shape[0] / photograph.shape[0], shape[1] / photograph.shape[1])
    zoom = least * rng.uniform(1.0, 2.0)
    height, width = math.ceil(shape[0] / zoom), math.ceil(shape[1] / zoom)
    top = int(rng.integers(max(0, photograph.shape[0] - height) + 1))
    left = int(rng.integers(max(0, photograph.shape[1] - width) + 1))
    part = photograph[top : top + height, left : left + width]
    return cv2.resize(part, shape[::-1], interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)


def _draw_place(
    shape: tuple[int, int], others: Sequence[LocatedFace], number: int, rng: np.random.Generator
) -> LocatedFace | None:
    """Draw where a crop comes to lie, apart from the others; part of the face may be cut off."""
    largest = LARGEST if number == 1 else 0.55
    for _ in range(20):
        side = max(shape) * math.exp(rng.uniform(math.log(SMALLEST), math.log(largest)))
        # The face itself takes about the middle half of its crop.
        edge = 0.18 * side
        x, y = (
            rng.uniform(edge, extent - edge) if edge < 0.45 * extent else extent * rng.uniform(0.45, 0.55)
            for extent in (shape[1], shape[0])
        )
        roll = float(np.clip(rng.normal(0, 0.4 * STEEPEST), -STEEPEST, STEEPEST))
        if all(math.hypot(x - face.x, y - face.y) > 0.4 * (side + face.side) for face in others):
            return LocatedFace(x=x, y=y, side=side, roll=roll)
    return None


def _nearly_all(size: int, rng: np.random.Generator) -> LocatedFace:
    """Place a face as it comes aligned: it fills the canvas."""
    x, y = (size - 1) / 2 + rng.normal(0, 0.02 * size, size=2)
    return LocatedFace(x=x, y=y, side=size * rng.uniform(0.94, 1.08), roll=rng.normal(0, 0.03))


def _lay(
    canvas: np.ndarray, subject: _Subject, place: LocatedFace, rng: np.random.Generator, *, alone: bool
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a person onto the canvas so that the crop of the face comes to lie at `place`."""
    zoom, turn = place.side / subject.face.side, place.roll - subject.face.roll
    rotation = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    shift = np.array([place.x, place.y]) - rotation @ [subject.face.x, subject.face.y]
    matrix = np.column_stack([rotation, shift])
    size_xy = canvas.shape[1::-1]
    color = subject.color if zoom > 0.75 else cv2.GaussianBlur(subject.color, (0, 0), 0.45 * (1 / zoom - 1) + 0.1)
    color = cv2.warpAffine(color, matrix, size_xy, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(subject.alpha, matrix, size_xy, flags=cv2.INTER_LINEAR)[..., None]
    if alone and rng.random() < 0.5:
        # A backdrop in the picture's own colours.
        few = cv2.resize(color, (6, 6), interpolation=cv2.INTER_AREA)
        canvas = cv2.resize(few, size_xy, interpolation=cv2.INTER_LINEAR)
    return np.clip(alpha * color + (1 - alpha) * canvas + 0.5, 0, 255).astype(np.uint8)


def _scatter(canvas: np.ndarray, cutout: Cutout, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Lay an occluder where there is no face: what covers faces is no face. Emoji are left out, some have faces."""
    if cutout.kind == "emoji":
        return canvas
    height, width = cutout.rgba.shape[:2]
    zoom = max(canvas.shape[:2]) * rng.uniform(0.2, 0.8) / max(height, width)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-40, 40), zoom)
    matrix[:, 2] += np.array(canvas.shape[1::-1]) * rng.uniform(0.1, 0.9, size=2) - [width / 2, height / 2]
    laid = cv2.warpAffine(cutout.rgba, matrix, canvas.shape[1::-1], flags=cv2.INTER_AREA).astype(np.float32)
    alpha = laid[..., 3:] / 255.0
    return np.clip(alpha * laid[..., :3] + (1 - alpha) * canvas, 0, 255).astype(np.uint8)


def _photograph(canvas: np.ndarray, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Change light, colour and sharpness of the whole picture, and let the sensor and the file add their faults."""
    pixels = canvas.astype(np.float32)
    gray = pixels.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.5, 1.4)
    cast = 1.0 + rng.normal(0, 0.06, size=3)
    pixels = (gray + saturation * (pixels - gray)) * cast.astype(np.float32) * rng.uniform(0.65, 1.35)
    pixels = 255.0 * (np.clip(pixels + rng.normal(0, 12.0), 0, 255) / 255.0) ** float(np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.25:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(1.0, 9.0), size=pixels.shape)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
