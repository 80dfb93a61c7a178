import numpy as np
import pytest

from s3pot.parsing.classes import CLASSES, face_mask
from s3pot.parsing.completion import FaceCompletion, complete_parsing
from tests.faces import draw_face

MODES: tuple[FaceCompletion, ...] = ("none", "fill", "hull", "parser")
# One letter per class: . background, h hair, s skin, n nose, l lip, g eye_glass, e ears
LETTERS = {".": "background", "h": "hair", "s": "skin", "n": "nose", "l": "lip", "g": "eye_glass", "e": "ears"}


def parsing_of(drawing: str) -> np.ndarray:
    rows = [[CLASSES.index(LETTERS[letter]) for letter in line.split()] for line in drawing.strip().splitlines()]
    return np.array(rows, dtype=np.uint8)


FACE = parsing_of("""
    h h h h h h h
    h s s s s s h
    . s g g g s .
    . s s n s s .
    e s h . n s e
    . s s s s s .
    . . s . s . .
    . . . . . . .
""")


def test_none_is_the_parsing_itself() -> None:
    assert complete_parsing(FACE, "none") is FACE


def test_fill_relabels_whatever_the_face_encloses() -> None:
    # Glasses, hair and background inside; the notch in the chin is open. Nearest of skin and nose: see the columns.
    completed = complete_parsing(FACE, "fill")
    assert completed[2, 2] == completed[2, 4] == completed[4, 2] == CLASSES.index("skin")
    assert completed[4, 3] == CLASSES.index("nose")  # two of its neighbours are nose; so is the first nearest one
    assert completed[6, 3] == CLASSES.index("background")
    changed = np.argwhere(completed != FACE).tolist()
    assert changed == [[2, 2], [2, 3], [2, 4], [4, 2], [4, 3]]


def test_hull_relabels_occluder_like_classes_inside_the_outline() -> None:
    completed = complete_parsing(FACE, "hull")
    changed = np.argwhere(completed != FACE).tolist()
    # The hair stays hair; the notch between the two corners of the chin becomes skin.
    assert changed == [[2, 2], [2, 3], [2, 4], [4, 3], [6, 3]]
    assert completed[6, 3] == CLASSES.index("skin")


def test_parser_relabels_glasses_and_then_what_the_face_encloses() -> None:
    completed = complete_parsing(FACE, "parser")
    # The notch in the chin is open and stays, unlike in the hull.
    assert np.argwhere(completed != FACE).tolist() == [[2, 2], [2, 3], [2, 4], [4, 2], [4, 3]]
    # A gap that only the glasses close: background between a lens and the nose.
    closed_by_glasses = parsing_of("""
        s s s s s
        s . g g s
        s g s s s
        . . s s s
    """)
    completed = complete_parsing(closed_by_glasses, "parser")
    assert np.argwhere(completed != closed_by_glasses).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1]]


def test_parser_leaves_glasses_beside_the_face() -> None:
    parsing = FACE.copy()
    parsing[2, 0] = CLASSES.index("eye_glass")  # the temple, over hair
    assert complete_parsing(parsing, "parser")[2, 0] == CLASSES.index("eye_glass")


@pytest.mark.parametrize("mode", ["fill", "hull"])
def test_a_hand_that_a_parser_calls_background_becomes_face(mode: FaceCompletion) -> None:
    _, parsing = draw_face(128)
    occluded = parsing.copy()
    occluded[60:85, 45:80] = CLASSES.index("background")
    completed = complete_parsing(occluded, mode)
    assert (face_mask(completed) & face_mask(parsing)).sum() == face_mask(parsing).sum()
    outside = np.ones_like(parsing, dtype=bool)
    outside[60:85, 45:80] = False
    assert (completed != parsing)[outside].mean() < 1e-3  # a drawn ellipse is not convex to the pixel


def test_a_hand_over_the_chin_is_completed_by_the_hull_only() -> None:
    _, parsing = draw_face(128)
    occluded = parsing.copy()
    occluded[90:, 50:75] = CLASSES.index("background")  # open to below: no hole
    filled, hulled = (face_mask(complete_parsing(occluded, mode)) for mode in ("fill", "hull"))
    np.testing.assert_array_equal(filled, face_mask(occluded))
    assert (hulled & face_mask(parsing)).sum() > 0.97 * face_mask(parsing).sum()


@pytest.mark.parametrize("mode", MODES)
class TestAnyMode:
    def test_a_bare_face_stays(self, mode: FaceCompletion) -> None:
        _, parsing = draw_face(128)
        assert (complete_parsing(parsing, mode) != parsing).mean() < 1e-3  # an ellipse is not convex to the pixel

    def test_without_a_face_nothing_changes(self, mode: FaceCompletion) -> None:
        for name in ("background", "eye_glass", "hair"):
            parsing = np.full((16, 16), CLASSES.index(name), np.uint8)
            np.testing.assert_array_equal(complete_parsing(parsing, mode), parsing)

    @pytest.mark.parametrize("pixels", [1, 2, 3])
    def test_a_face_of_a_few_pixels(self, mode: FaceCompletion, pixels: int) -> None:
        parsing = np.zeros((9, 9), np.uint8)
        parsing[4, 3 : 3 + pixels] = CLASSES.index("lip")
        np.testing.assert_array_equal(complete_parsing(parsing, mode), parsing)

    def test_the_input_is_not_written_to(self, mode: FaceCompletion) -> None:
        before = FACE.copy()
        completed = complete_parsing(FACE, mode)
        np.testing.assert_array_equal(FACE, before)
        assert completed.dtype == np.uint8
        assert completed.shape == FACE.shape

    def test_completion_twice_is_completion_once(self, mode: FaceCompletion) -> None:
        once = complete_parsing(FACE, mode)
        np.testing.assert_array_equal(complete_parsing(once, mode), once)


def test_without_skin_the_nearest_face_part_is_taken() -> None:
    parsing = parsing_of("""
        l l l
        l g l
        l l l
    """)
    assert complete_parsing(parsing, "parser")[1, 1] == CLASSES.index("lip")
