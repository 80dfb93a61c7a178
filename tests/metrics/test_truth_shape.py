import math

import numpy as np
import pytest

from s3pot.metrics.truth_shape import FINE_OF_FACE_SIDE, thin_share

# A face of this many pixels makes discs of 6 px.
FACE = round((6 / FINE_OF_FACE_SIDE) ** 2)


def bar(width: int) -> np.ndarray:
    truth = np.zeros((60, 60), dtype=bool)
    truth[20 : 20 + width, 5:55] = True
    return truth


def test_a_bar_is_thin_up_to_the_diameter_of_the_disc():
    assert thin_share(bar(6), FACE) == 1.0
    assert thin_share(bar(9), FACE) < 0.1  # its corners only
    assert thin_share(bar(6), FACE // 4) < 0.1, "in a smaller face the same bar is no fine thing"


def test_a_handle_on_a_disc():
    rows, cols = np.mgrid[:60, :60]
    disc = (rows - 30) ** 2 + (cols - 30) ** 2 <= 15**2
    handle = np.zeros_like(disc)
    handle[29:32, 46:58] = True
    assert thin_share(disc, FACE) < 0.01
    assert thin_share(disc | handle, FACE) == pytest.approx(handle.sum() / (disc | handle).sum(), abs=0.01)


def test_what_touches_the_frame_goes_on_outside():
    strip = np.zeros((60, 60), dtype=bool)
    strip[:5] = True
    assert thin_share(strip, FACE) == 0.0


def test_nothing_has_no_shape():
    assert math.isnan(thin_share(np.zeros((4, 4), dtype=bool), FACE))
    assert math.isnan(thin_share(np.ones((4, 4), dtype=bool), 0))
    with pytest.raises(ValueError, match="truth must be"):
        thin_share(np.ones((4, 4), dtype=np.uint8), FACE)


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_disc_laid_over_every_place(seed):
    coarse = np.random.default_rng(seed).random((8, 7)) < 0.55
    truth = np.repeat(np.repeat(coarse, 3, axis=0), 3, axis=1)
    face_pixels = round((5 / FINE_OF_FACE_SIDE) ** 2)
    radius = FINE_OF_FACE_SIDE * math.sqrt(face_pixels) / 2
    reach = range(-3, 4)
    disc = [(dr, dc) for dr in reach for dc in reach if math.hypot(dr, dc) <= radius]
    height, width = truth.shape

    def covered(r: int, c: int) -> bool:
        return bool(truth[min(max(r, 0), height - 1), min(max(c, 0), width - 1)])

    thick = np.zeros_like(truth)
    for r in range(-3, height + 3):
        for c in range(-3, width + 3):
            if all(covered(r + dr, c + dc) for dr, dc in disc):
                for dr, dc in disc:
                    if 0 <= r + dr < height and 0 <= c + dc < width:
                        thick[r + dr, c + dc] = True
    assert thin_share(truth, face_pixels) == pytest.approx((truth & ~thick).sum() / truth.sum())
