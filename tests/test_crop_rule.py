import cmath
import math
from pathlib import Path

import numpy as np
import pytest

from s3pot.alignment import crop_face
from s3pot.crop_rule import face_from_landmarks
from s3pot.images import read_labels
from s3pot.parsing.classes import celebamask_to_12
from s3pot.reference.landmarks import LANDMARKS, read_landmarks

# Eyes, then mouth corners, of a frontal face.
FACE = np.array([[100.0, 100.0], [160.0, 100.0], [110.0, 170.0], [150.0, 170.0]])


class TestByHand:
    def test_a_level_face(self) -> None:
        # 60 between the eyes, 70 down to the mouth: max(4 x 60, 3.6 x 70) = 252, centre a tenth of the way down.
        face = face_from_landmarks(*FACE)
        assert (face.x, face.y, face.side, face.roll) == pytest.approx((130.0, 107.0, 252.0, 0.0))
        assert face.score == 1.0

    def test_a_wide_face_is_measured_by_its_eyes(self) -> None:
        face = face_from_landmarks((90, 100), (170, 100), (110, 170), (150, 170))
        assert face.side == pytest.approx(4 * 80)

    def test_a_mouth_aside_turns_the_crop_by_half_of_what_it_says(self) -> None:
        # e = (4, 0), m = (1, 3), m turned by a quarter = (-3, 1), x = e - (-3, 1) = (7, -1).
        face = face_from_landmarks((0, 0), (4, 0), (2, 3), (4, 3))
        assert (face.x, face.y, face.side) == pytest.approx((2.1, 0.3, 16.0))
        assert face.roll == pytest.approx(math.atan2(-1, 7))


def corners_of_the_paper(points: np.ndarray) -> np.ndarray:
    """Appendix C as printed, on complex numbers, for which a quarter turn is a factor of i; corners clockwise."""
    e0, e1, m0, m1 = (complex(x, y) for x, y in points)
    across, up = e1 - e0, (e0 + e1) / 2 - (m0 + m1) / 2
    center, side = (e0 + e1) / 2 - 0.1 * up, max(4.0 * abs(across), 3.6 * abs(up))
    x = across + 1j * up  # y points down in pictures: the printed turn goes the other way
    x *= side / 2 / abs(x)
    y = 1j * x
    quad = [center - x - y, center + x - y, center + x + y, center - x + y]
    return np.array([[corner.real, corner.imag] for corner in quad])


def test_the_crop_is_the_quad_of_the_paper(rng: np.random.Generator) -> None:
    for _ in range(20):
        turn = cmath.exp(1j * rng.uniform(-math.pi, math.pi)) * rng.uniform(0.3, 3.0)
        matrix = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
        points = (FACE + rng.normal(0.0, 4.0, FACE.shape)) @ matrix.T + rng.uniform(-50, 300, 2)
        crop = crop_face(np.zeros((8, 8, 3), np.uint8), face_from_landmarks(*points), 64)
        corners = np.array([[-0.5, -0.5, 1], [63.5, -0.5, 1], [63.5, 63.5, 1], [-0.5, 63.5, 1]]) @ crop.to_original.T
        np.testing.assert_allclose(corners, corners_of_the_paper(points), atol=1e-6)


@pytest.mark.parametrize("roll", [0.0, 0.4, -1.2, math.pi / 2, 3.0])
def test_the_crop_moves_turns_and_grows_with_the_face(roll: float) -> None:
    level, scale, shift = face_from_landmarks(*FACE), 1.7, np.array([31.0, -12.0])
    matrix = scale * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    face = face_from_landmarks(*(FACE @ matrix.T + shift))
    assert [face.x, face.y] == pytest.approx((matrix @ [level.x, level.y] + shift).tolist())
    assert face.side == pytest.approx(scale * level.side)
    assert face.roll == pytest.approx(roll)


def test_aligned_pictures_give_back_the_whole_picture(shared_data: Path) -> None:
    """CelebA-HQ was cut by this rule, from landmarks that somebody clicked; here they are read off the labels."""
    wanted = [LANDMARKS.index(name) for name in ("left_eye", "right_eye", "left_mouth_corner", "right_mouth_corner")]
    off_center, off_side, roll = [], [], []
    for path in sorted((shared_data / "celebamask" / "val" / "labels").iterdir())[:40]:
        points = read_landmarks(celebamask_to_12(read_labels(path)))[wanted]
        if not np.isfinite(points).all():
            continue  # closed or hidden eyes
        face = face_from_landmarks(*points)
        off_center.append(math.hypot(face.x - 255.5, face.y - 255.5) / 512)
        off_side.append(abs(face.side / 512 - 1.0))
        roll.append(abs(math.degrees(face.roll)))
    assert len(roll) >= 30
    # Measured on all 84: centre 0.006 and 0.009 sides, side 1.9 and 4.2 %, roll 0.5 and 1.2 degrees (median, 90 %).
    for values, median, most in ((off_center, 0.01, 0.015), (off_side, 0.03, 0.07), (roll, 1.0, 2.0)):
        assert np.median(values) < median
        assert np.quantile(values, 0.9) < most


class TestNoFace:
    def test_of_what_are_no_points(self) -> None:
        with pytest.raises(ValueError, match="four points"):
            face_from_landmarks(FACE[0], FACE[1], FACE[2], (math.nan, 3.0))
        with pytest.raises(ValueError, match="four points"):
            face_from_landmarks((1, 2, 3), (1, 2, 4), (1, 2, 5), (1, 2, 6))

    def test_where_points_coincide(self) -> None:
        with pytest.raises(ValueError, match="the eyes lie on one point"):
            face_from_landmarks(FACE[0], FACE[0], FACE[2], FACE[3])
        with pytest.raises(ValueError, match="the mouth and the middle of the eyes lie on one point"):
            face_from_landmarks(FACE[0], FACE[1], (120, 100), (140, 100))
        with pytest.raises(ValueError, match="crossed"):
            face_from_landmarks(FACE[0], FACE[1], FACE[2], FACE[2])

    @pytest.mark.parametrize("roll", [0.0, 0.9, 3.1])
    def test_where_left_and_right_are_swapped(self, roll: float) -> None:
        turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
        left_eye, right_eye, left_mouth, right_mouth = FACE @ turn.T
        with pytest.raises(ValueError, match="not of the person"):
            face_from_landmarks(right_eye, left_eye, right_mouth, left_mouth)
        for swapped in ((right_eye, left_eye, left_mouth, right_mouth), (left_eye, right_eye, right_mouth, left_mouth)):
            with pytest.raises(ValueError, match="crossed"):
                face_from_landmarks(*swapped)

    def test_where_y_points_up(self) -> None:
        with pytest.raises(ValueError, match="y must point down"):
            face_from_landmarks(*(FACE * [1, -1]))
