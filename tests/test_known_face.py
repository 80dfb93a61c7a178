import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.data import astronaut

from s3pot.cascade import find_with_cascade
from s3pot.known_face import CROP, MARKED_PLACES, known_face, middle_of, share_of_places
from s3pot.parsing.classes import CLASSES, FACE_CLASSES


def test_the_crop_is_what_the_cascade_finds() -> None:
    found = find_with_cascade(astronaut())
    assert found is not None
    assert (found.x, found.y, found.side, found.roll) == pytest.approx((CROP.x, CROP.y, CROP.side, 0.0), abs=0.01)


@pytest.mark.parametrize("size", [256, 400])
def test_marks_agree_with_each_other(size: int) -> None:
    face = known_face(size)
    for name, x, y in MARKED_PLACES:
        assert face.outline[int(y * size), int(x * size)] == (CLASSES.index(name) in FACE_CLASSES)
    assert face.clean.shape == face.occluded.shape == (size, size, 3)


def test_only_the_scarf_was_added() -> None:
    face = known_face(256)
    changed = np.abs(face.clean.astype(int) - face.occluded).max(axis=2)
    assert changed[~binary_dilation(face.scarf, iterations=5)].max() == 0
    assert (changed[binary_erosion(face.scarf, iterations=2)] > 10).mean() > 0.9
    assert 0.1 < (face.scarf & face.outline).sum() / face.outline.sum() < 0.5


def test_the_scarf_hides_neither_nose_nor_eyes() -> None:
    face = known_face(256)
    assert not any(face.scarf[int(y * 256), int(x * 256)] for name, x, y in MARKED_PLACES if name in ("eyes", "nose"))


def test_share_of_places() -> None:
    parsing = np.full((100, 100), CLASSES.index("hair"), dtype=np.uint8)
    assert share_of_places(parsing) == 3 / 13
    parsing[46, 38] = CLASSES.index("eyes")  # row and column of the eye on the left
    assert share_of_places(parsing) == 4 / 13


def test_the_middle_is_farthest_from_the_outline() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:16, 20:31] = True  # a square, and a thin tail that shifts the centroid
    mask[10, 31:60] = True
    assert middle_of(mask) == (25, 10)
