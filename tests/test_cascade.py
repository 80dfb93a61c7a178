import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from s3pot.cascade import find_with_cascade
from tests.stand_ins import ASTRONAUT


def test_the_astronaut_is_framed_as_by_eye() -> None:
    found = find_with_cascade(astronaut())
    assert found is not None
    assert found.side == pytest.approx(ASTRONAUT.side, rel=0.1)
    assert found.x == pytest.approx(ASTRONAUT.x, abs=0.05 * ASTRONAUT.side)
    assert found.y == pytest.approx(ASTRONAUT.y, abs=0.05 * ASTRONAUT.side)
    assert found.roll == 0.0


def test_a_larger_photograph_gives_the_same_crop() -> None:
    small = find_with_cascade(astronaut())
    large = find_with_cascade(cv2.resize(astronaut(), (1536, 1536), interpolation=cv2.INTER_CUBIC))
    assert small is not None
    assert large is not None
    assert large.side == pytest.approx(3 * small.side, rel=0.1)
    assert (large.x + 0.5) / 3 - 0.5 == pytest.approx(small.x, abs=6)
    assert (large.y + 0.5) / 3 - 0.5 == pytest.approx(small.y, abs=6)


def test_the_largest_face_counts() -> None:
    half = cv2.resize(astronaut()[:256, 96:352], (160, 160), interpolation=cv2.INTER_AREA)
    photo = np.full((512, 700, 3), 127, np.uint8)
    photo[10:170, 10:170] = half
    photo[:, 188:] = astronaut()
    found = find_with_cascade(photo)
    assert found is not None
    assert found.x - 188 == pytest.approx(ASTRONAUT.x, abs=15)


@pytest.mark.parametrize("shape", [(300, 300), (20, 20), (5, 400), (1, 1)])
def test_no_face_is_none(shape: tuple[int, int]) -> None:
    assert find_with_cascade(np.full((*shape, 3), 128, np.uint8)) is None
