import numpy as np
import pytest

from s3pot.reference.degradation import STRONGEST, degrade_reference


def test_nothing_is_done_at_0() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(degrade_reference(picture, 0.0), picture)


@pytest.mark.parametrize(("amount", "size"), [(1.0, 256), (0.5, 256), (1.0, 128)])
def test_the_blur_is_that_share_of_the_strongest_one(amount: float, size: int) -> None:
    # The edge of a half plane has a normal distribution as its profile: 84.1 % of the step one deviation behind it.
    picture = np.zeros((size, size, 3), np.uint8)
    picture[:, size // 2 :] = 255
    profile = degrade_reference(picture, amount)[size // 2, :, 0] / 255
    deviation = amount * STRONGEST * size
    at = np.interp(size / 2 - 0.5 + deviation, np.arange(size), profile)
    assert at == pytest.approx(0.841, abs=0.01)


def test_more_is_worse_and_the_frame_stays() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    spreads = [degrade_reference(picture, amount).std() for amount in (0.0, 0.125, 0.25, 0.5, 1.0)]
    assert spreads == sorted(spreads, reverse=True)
    worst = degrade_reference(picture, 1.0)
    assert (worst.shape, worst.dtype) == (picture.shape, np.uint8)
