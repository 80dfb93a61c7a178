import cv2
import numpy as np
import pytest

from s3pot.composite.difficulty import Difficulty
from s3pot.composite.placement import FaceLayout, face_layout, place
from s3pot.parsing.classes import CLASSES
from tests.faces import draw_face

KINDS = ("hands", "sunglasses", "spectacles", "hats", "masks", "scarves", "objects", "emoji", "something new")
LEVEL = FaceLayout(center=(128.0, 128.0), size=(100.0, 140.0), eyes=(128.0, 105.0), mouth=(128.0, 170.0), roll=0.0)


def box(parsing: np.ndarray, name: str, rows: slice, cols: slice) -> None:
    parsing[rows, cols] = CLASSES.index(name)


def blank_face() -> np.ndarray:
    """Skin on rows 20..119 and columns 30..109 of 140 x 140, without parts."""
    parsing = np.zeros((140, 140), dtype=np.uint8)
    box(parsing, "skin", slice(20, 120), slice(30, 110))
    return parsing


def middle_of(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    return matrix @ np.array([(width - 1) / 2, (height - 1) / 2, 1.0])


def scale_of(matrix: np.ndarray) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def draws(kind: str, layout: FaceLayout = LEVEL, size: tuple[int, int] = (40, 80), number: int = 200) -> list:
    rng = np.random.default_rng(0)
    return [place(kind, size, layout, rng) for _ in range(number)]


def test_layout_by_hand() -> None:
    parsing = blank_face()
    box(parsing, "eyes", slice(50, 55), slice(40, 51))  # centre (45, 52)
    box(parsing, "eyes", slice(50, 55), slice(90, 101))  # centre (95, 52)
    box(parsing, "lip", slice(90, 101), slice(60, 81))  # with the mouth, centre (70, 95)
    box(parsing, "mouth", slice(94, 97), slice(65, 76))
    layout = face_layout(parsing)
    assert layout.center == pytest.approx((69.5, 69.5), abs=1.0)
    assert layout.size == pytest.approx((80, 100), abs=2.5)  # the 1st to 99th percentile, against stray pixels
    assert layout.eyes == pytest.approx((70, 52))
    assert layout.mouth == pytest.approx((70, 95))
    assert layout.roll == 0.0


def test_a_stray_pixel_does_not_move_the_box() -> None:
    parsing = blank_face()
    parsing[139, 139] = CLASSES.index("skin")
    assert face_layout(parsing).center == pytest.approx((69.5, 69.5), abs=1.0)


def test_roll_is_the_angle_of_the_line_through_the_eyes() -> None:
    parsing = blank_face()
    box(parsing, "eyes", slice(40, 45), slice(40, 45))  # centre (42, 42)
    box(parsing, "eyes", slice(60, 65), slice(90, 95))  # centre (92, 62)
    layout = face_layout(parsing)
    assert layout.eyes == pytest.approx((67, 52))
    assert layout.roll == pytest.approx(np.arctan2(20, 50))


def test_roll_follows_a_turned_face() -> None:
    _, parsing = draw_face(256)
    turn = cv2.getRotationMatrix2D((128, 128), 10.0, 1.0)  # positive is anti-clockwise: the right eye moves up
    turned = cv2.warpAffine(parsing, turn, (256, 256), flags=cv2.INTER_NEAREST)
    assert face_layout(parsing).roll == pytest.approx(0.0, abs=0.02)
    assert face_layout(turned).roll == pytest.approx(np.deg2rad(-10.0), abs=0.03)


def test_eyes_of_different_size_do_not_pull_the_middle() -> None:
    parsing = blank_face()
    box(parsing, "eyes", slice(50, 55), slice(40, 61))  # wide, centre (50, 52)
    box(parsing, "eyes", slice(50, 55), slice(90, 99))  # half hidden, centre (94, 52)
    assert face_layout(parsing).eyes == pytest.approx((72, 52))


def test_missing_parts_are_where_they_are_expected() -> None:
    layout = face_layout(blank_face())
    assert layout.eyes == pytest.approx((69.5, 20 + 35), abs=1.5)
    assert layout.mouth == pytest.approx((69.5, 20 + 80), abs=1.5)
    assert layout.roll == 0.0


def test_no_face_is_an_error() -> None:
    with pytest.raises(ValueError, match="no face region"):
        face_layout(np.full((8, 8), CLASSES.index("hair"), dtype=np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_neither_shears_nor_stretches(kind: str) -> None:
    matrices = draws(kind)
    assert all(matrix.shape == (2, 3) and matrix.dtype == np.float32 for matrix in matrices)
    for matrix in matrices:
        gram = matrix[:, :2].T @ matrix[:, :2]
        assert np.allclose(gram, gram[0, 0] * np.eye(2), rtol=1e-4, atol=1e-4)
    mirrored = np.mean([np.linalg.det(matrix[:, :2]) < 0 for matrix in matrices])
    assert 0.35 < mirrored < 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_place(kind: str) -> None:
    first, again, other = (place(kind, (40, 80), LEVEL, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ["sunglasses", "spectacles"])
def test_glasses_sit_on_the_eyes_as_wide_as_the_face(kind: str) -> None:
    for matrix in draws(kind):
        assert np.linalg.norm(middle_of(matrix, 40, 80) - LEVEL.eyes) < 12.0
        assert 0.95 <= scale_of(matrix) * 80 / 100 <= 1.2


def test_the_canvas_of_a_hat_is_two_faces_wide_and_at_most_pulled_down() -> None:
    for matrix in draws("hats", size=(200, 200)):
        assert 0.95 <= scale_of(matrix) * 200 / 200 <= 1.15
        x, y = middle_of(matrix, 200, 200)
        assert abs(x - 128) < 10
        assert -10 < y - 105 < 0.2 * 140 + 10


def test_masks_sit_on_the_mouth() -> None:
    for matrix in draws("masks"):
        assert np.linalg.norm(middle_of(matrix, 40, 80) - LEVEL.mouth) < 22.0
        assert 0.95 <= scale_of(matrix) * 80 / 100 <= 1.15


@pytest.mark.parametrize("size", [(40, 80), (300, 80)])
def test_the_upper_edge_of_a_scarf_lies_between_nose_and_chin(size: tuple[int, int]) -> None:
    for matrix in draws("scarves", size=size):
        assert 1.1 <= scale_of(matrix) * 80 / 100 <= 1.6
        upper = middle_of(matrix, *size)[1] - scale_of(matrix) * size[0] / 2
        assert 170 - 0.25 * 140 - 10 < upper < 170 + 0.1 * 140 + 10


def test_a_hand_is_about_as_large_as_the_face_and_reaches_it() -> None:
    for matrix in draws("hands"):
        assert 0.55 <= scale_of(matrix) * 80 / 140 <= 0.95
        x, y = middle_of(matrix, 40, 80)
        assert abs(x - 128) <= 50.1
        assert -21.1 <= y - 128 <= 63.1


@pytest.mark.parametrize("kind", ["objects", "something new"])
def test_other_things_lie_anywhere_on_the_face(kind: str) -> None:
    middles = np.array([middle_of(matrix, 40, 80) for matrix in draws(kind)])
    assert np.abs(middles[:, 0] - 128).max() <= 45.1
    assert middles[:, 1].min() >= 128 - 0.4 * 140 - 0.1
    assert middles[:, 1].max() <= 128 + 0.45 * 140 + 0.1
    assert middles[:, 0].std() > 15, "the places must vary"


def test_sizes_of_hands_and_objects_can_be_set() -> None:
    difficulty = Difficulty(hand_scale=(1.0, 1.0), object_scale=(0.1, 0.2))
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert scale_of(place("hands", (40, 80), LEVEL, rng, difficulty)) * 80 / 140 == pytest.approx(1.0)
        assert 0.1 <= scale_of(place("objects", (40, 80), LEVEL, rng, difficulty)) * 80 / 100 <= 0.2 + 1e-6


def test_glasses_turn_with_the_face() -> None:
    turned = FaceLayout(center=LEVEL.center, size=LEVEL.size, eyes=LEVEL.eyes, mouth=(100.0, 165.0), roll=0.4)
    # The second column is the image of the cut-out's down axis, which mirroring leaves alone.
    angles = [np.arctan2(-matrix[0, 1], matrix[1, 1]) for matrix in draws("sunglasses", turned)]
    assert np.mean(angles) == pytest.approx(0.4, abs=0.02)
