import numpy as np
import pytest

from s3pot.metrics.mask_checks import require_bool_images

GOOD = np.zeros((2, 2), dtype=bool)


def test_bool_images_of_one_shape_pass():
    require_bool_images(first=GOOD, second=~GOOD)


@pytest.mark.parametrize(
    ("bad", "came"),
    [
        (np.zeros((2, 2), dtype=np.uint8), r"uint8 \(2, 2\)"),
        (np.zeros((2, 2, 1), dtype=bool), r"bool \(2, 2, 1\)"),
        (np.zeros((0, 2), dtype=bool), r"bool \(0, 2\)"),
    ],
)
def test_a_wrong_image_is_named_with_what_came(bad, came):
    with pytest.raises(ValueError, match=f"second must be .* got {came}"):
        require_bool_images(first=GOOD, second=bad)


def test_a_shape_mismatch_names_both_sides():
    with pytest.raises(ValueError, match=r"second must have the shape \(2, 2\) of first; got \(2, 3\)"):
        require_bool_images(first=GOOD, second=np.zeros((2, 3), dtype=bool))
