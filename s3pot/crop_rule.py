"""The crop rule of CelebA-HQ and FFHQ: from eyes and mouth to the square that aligned face pictures show.

    e = right eye - left eye,  m = middle of the mouth - middle of the eyes,  x = e - rot90(m), a quarter turn of m
    half side = max(2.0 |e|, 1.8 |m|), upper edge along x, centre = middle of the eyes + 0.1 m

[Karras et al., Progressive Growing of GANs, ICLR 2018, appendix C, for CelebA-HQ; the authors' script that recreates
the aligned pictures of FFHQ, github.com/NVlabs/ffhq-dataset, 2019, for the same rule on 68 landmarks]. Adding e and
the turned m makes the roll rest on both, so that neither a shaky eye nor a crooked mouth tilts the picture much.

Coordinates are (x, y) in pixels of the picture, the middle of its first pixel is (0, 0), y points down. Left and right
are those of the picture, not of the person.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num

from s3pot.locator import LocatedFace

Point = Sequence[float | int] | Num[np.ndarray, " 2"]

# Half sides of the crop in eye-to-eye and eye-to-mouth distances, and how far below the eyes its centre lies.
_EYE_TO_EYE, _EYE_TO_MOUTH, _DOWN = 2.0, 1.8, 0.1


def face_from_landmarks(
    left_eye: Point, right_eye: Point, left_mouth_corner: Point, right_mouth_corner: Point
) -> LocatedFace:
    """Return the crop of a face, as CelebA-HQ and FFHQ cut it.

    Args:
        left_eye: centre of the eye on the left in the picture.
        right_eye: centre of the other eye.
        left_mouth_corner: corner of the mouth on the left in the picture.
        right_mouth_corner: the other corner.

    Returns:
        The crop, with score 1: whoever gives landmarks is sure of them.

    Raises:
        ValueError: if a point is no pair of finite numbers, if points coincide that must not, or if left and right are
            swapped.
    """
    given = (left_eye, right_eye, left_mouth_corner, right_mouth_corner)
    points = np.array([np.asarray(point, dtype=np.float64) for point in given])
    if points.shape != (4, 2) or not np.isfinite(points).all():
        raise ValueError(f"expected four points (x, y) of finite numbers, got {points.tolist()}")
    between_eyes, mouth = points[:2].mean(axis=0), points[2:].mean(axis=0)
    eye_to_eye, eye_to_mouth, along_mouth = points[1] - points[0], mouth - between_eyes, points[3] - points[2]
    for name, length in (("eyes", eye_to_eye), ("mouth and the middle of the eyes", eye_to_mouth)):
        if not length.any():
            raise ValueError(f"the {name} lie on one point: the landmarks are of no face")
    _check_sides(eye_to_eye, eye_to_mouth, along_mouth)
    return crop_around(between_eyes, eye_to_eye, eye_to_mouth)


def crop_around(
    between_eyes: Float[np.ndarray, " 2"], eye_to_eye: Float[np.ndarray, " 2"], eye_to_mouth: Float[np.ndarray, " 2"]
) -> LocatedFace:
    """Apply the rule to the middle of the eyes and the vectors from eye to eye and down to the middle of the mouth."""
    along = eye_to_eye - [-eye_to_mouth[1], eye_to_mouth[0]]
    center = between_eyes + _DOWN * eye_to_mouth
    half_side = max(_EYE_TO_EYE * float(np.hypot(*eye_to_eye)), _EYE_TO_MOUTH * float(np.hypot(*eye_to_mouth)))
    roll = math.atan2(float(along[1]), float(along[0]))
    return LocatedFace(x=float(center[0]), y=float(center[1]), side=2.0 * half_side, roll=roll)


def _check_sides(
    eye_to_eye: Float[np.ndarray, " 2"], eye_to_mouth: Float[np.ndarray, " 2"], along_mouth: Float[np.ndarray, " 2"]
) -> None:
    """Refuse swapped sides: the two parts of x would cancel out, and a crop of any size and roll come of it."""
    if along_mouth @ eye_to_eye <= 0.0:
        raise ValueError(
            "the mouth corners are crossed against the eyes: left and right are swapped in one of the two pairs, or "
            "these are other points"
        )
    # Right and down span a positive area where y points down; it does not depend on how the head is turned.
    if eye_to_eye[0] * eye_to_mouth[1] - eye_to_eye[1] * eye_to_mouth[0] <= 0.0:
        raise ValueError(
            "with the mouth below the eyes, the left eye lies to the right of the right one: left and right must be "
            "those of the picture, not of the person, and y must point down"
        )
