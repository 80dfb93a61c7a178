"""Training samples of the embedded models: augmented faces with occluders, decoys and nothing at all.

Every sample derives from (seed, stage, index), so a resumed training sees what an uninterrupted one would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from s3pot.composite.compositor import compose, compose_decoy
from s3pot.composite.cutouts import Cutout
from s3pot.metrics.face_region import face_region
from s3pot.parsing.classes import face_mask
from s3pot.pretrain.faces import FaceBank
from s3pot.seeding import generator

# How often each kind is drawn; what a real face carries most comes first.
KIND_WEIGHTS = {
    "hands": 0.28,
    "emoji": 0.18,
    "sunglasses": 0.10,
    "masks": 0.10,
    "hats": 0.10,
    "objects": 0.08,
    "segments": 0.06,
    "scarves": 0.06,
    "spectacles": 0.04,
}
DECOY_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training picture.

    Attributes:
        image: (S, S, 3) uint8, with an occluder or without.
        clean: (S, S, 3) uint8, the same without it.
        parsing: (S, S) uint8, 12 classes of the clean face.
        occluder: (S, S) bool, all of the occluder, inside the face or not.
        region: (S, S) bool, face region R.
    """

    image: UInt8[np.ndarray, "s s 3"]
    clean: UInt8[np.ndarray, "s s 3"]
    parsing: UInt8[np.ndarray, "s s"]
    occluder: Bool[np.ndarray, "s s"]
    region: Bool[np.ndarray, "s s"]


def draw_sample(
    faces: FaceBank,
    cutouts: Sequence[Cutout],
    *,
    size: int,
    seed: int,
    stage: str,
    index: int,
    occluded_share: float,
) -> Sample:
    """Draw sample `index` of a stage.

    Args:
        faces: bases.
        cutouts: occluders of the same fold.
        size: side of the sample in pixels.
        seed: run seed.
        stage: name of the training, part of the derived seed.
        index: position in the training.
        occluded_share: probability of an occluder; one picture in ten is a decoy, the rest are clean.
    """
    rng = generator(seed, stage, str(index))
    clean, parsing = _augment(faces, rng, size)
    draw = rng.random()
    if draw < occluded_share and face_mask(parsing).mean() > 0.05:
        number = 2 if rng.random() < 0.2 else 1
        composite = compose(clean, parsing, [draw_cutout(cutouts, rng) for _ in range(number)], rng)
    elif draw < occluded_share + DECOY_SHARE and face_mask(parsing).mean() > 0.05:
        donor, _ = _augment(faces, rng, size)
        composite = compose_decoy(clean, parsing, donor, draw_cutout(cutouts, rng), rng)
    else:
        composite = None
    image = clean if composite is None else composite.image
    # A decoy's seam is part of the face as far as the clean picture is concerned: nothing is to be removed.
    clean = clean if composite is None else composite.clean
    image, clean = _photometric(image, clean, rng)
    return Sample(
        image=image,
        clean=clean,
        parsing=parsing,
        occluder=np.zeros(parsing.shape, dtype=bool) if composite is None else composite.occluder,
        region=face_region(parsing),
    )


def draw_cutout(cutouts: Sequence[Cutout], rng: np.random.Generator) -> Cutout:
    """Draw a kind by `KIND_WEIGHTS`, then one of its cut-outs."""
    kinds = sorted({cutout.kind for cutout in cutouts})
    weights = np.array([KIND_WEIGHTS.get(kind, 0.1) for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    of_kind = [cutout for cutout in cutouts if cutout.kind == kind]
    return of_kind[int(rng.integers(len(of_kind)))]


def _augment(faces: FaceBank, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a face and move it: mirror, zoom, turn, shift. Crops by a detector are less exact than CelebA-HQ's."""
    row = int(rng.integers(len(faces)))
    image, parsing = faces.images[row], faces.parsings[row]
    side = image.shape[0]
    zoom = rng.uniform(0.85, 1.2) * size / side
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), rng.normal(0, 6.0), zoom)
    matrix[:, 2] += (size - side) / 2 + rng.normal(0, 0.03, size=2) * size
    if rng.random() < 0.5:
        matrix[:, 2] += matrix[:, 0] * (side - 1)
        matrix[:, 0] *= -1
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink < 0.75:
        image = cv2.GaussianBlur(image, (0, 0), 0.45 * (1.0 / shrink - 1.0) + 0.1)
    image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    parsing = cv2.warpAffine(parsing, matrix, (size, size), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return image, parsing


def _photometric(image: np.ndarray, clean: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Change light, contrast, saturation and sharpness of both pictures alike."""
    gain, bias = rng.uniform(0.75, 1.25), rng.normal(0, 10.0)
    saturation, gamma = rng.uniform(0.6, 1.3), float(np.exp(rng.normal(0, 0.12)))
    cast = 1.0 + rng.normal(0, 0.03, size=3)
    blur = rng.uniform(0.5, 1.2) if rng.random() < 0.25 else 0.0

    def change(picture: np.ndarray) -> np.ndarray:
        pixels = picture.astype(np.float32)
        gray = pixels.mean(axis=2, keepdims=True)
        pixels = (gray + saturation * (pixels - gray)) * cast.astype(np.float32) * gain + bias
        pixels = 255.0 * (np.clip(pixels, 0, 255) / 255.0) ** gamma
        if blur:
            pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
        return (pixels + 0.5).astype(np.uint8)

    return change(image), change(clean)
