"""A left half stays the left half of what it lies over, whatever frame its file is in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3pot.predictions.placing import place
from s3pot.predictions.prediction import Prediction

# A face crop of 40 x 40 pixels, each 2 pixels of the image, with its corner at (30, 10) of a 120 x 160 image.
TO_ORIGINAL = np.array([[2.0, 0.0, 30.5], [0.0, 2.0, 10.5]])
CROP = (slice(10, 90), slice(30, 110))
SIZE = (120, 160)


def left_half(height: int, width: int) -> np.ndarray:
    claim = np.full((height, width), -0.5, dtype=np.float32)
    claim[:, : width // 2] = 0.5
    return claim


def placed(claim: np.ndarray, aligned: tuple[int, int] | None = (40, 40), **values: Any) -> list[np.ndarray]:
    prediction = Prediction(path=Path("a.png"), **values)
    matrix = None if aligned is None else TO_ORIGINAL
    return list(place(claim, prediction, SIZE, aligned_size=aligned, to_original=matrix))


def expect(found: list[np.ndarray], inside: tuple[slice, slice]) -> None:
    rows, cols = inside
    target, reached = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    reached[rows, cols] = True
    target[rows, cols.start : (cols.start + cols.stop) // 2] = True
    np.testing.assert_array_equal(found[0], target)
    np.testing.assert_array_equal(found[1], reached)


def test_original_and_stretched() -> None:
    whole = (slice(0, 120), slice(0, 160))
    expect(placed(left_half(120, 160)), whole)
    expect(placed(left_half(60, 60), frame="stretched"), whole)
    with pytest.raises(ValueError, match=r"a.png: is 60 x 60, the image 120 x 160 .* say frame=stretched"):
        placed(left_half(60, 60))


@pytest.mark.parametrize("side", [20, 40, 80, 320])
def test_the_face_crop_at_any_size(side: int) -> None:
    expect(placed(left_half(side, side), frame="aligned"), CROP)
    expect(placed(left_half(side, side), frame="model"), CROP)


def test_the_padding_of_the_model_square_is_cut_off() -> None:
    # A crop of 40 x 20: the right half of the square is padding, whatever stands there.
    square = np.full((64, 64), 0.5, dtype=np.float32)
    square[:, 16:32] = -0.5
    expect(placed(square, aligned=(40, 20), frame="model"), (slice(10, 90), slice(30, 70)))
    with pytest.raises(ValueError, match="frame=model is a padded square, got 64 x 32"):
        placed(square[:, :32], aligned=(40, 20), frame="model")
    with pytest.raises(ValueError, match="not of one shape"):
        placed(square, aligned=(40, 20), frame="aligned")


def test_a_crop_by_its_box_and_by_its_map() -> None:
    box = (30.0, 10.0, 80.0, 80.0)
    expect(placed(left_half(40, 40), frame="crop", crop=box), CROP)
    expect(placed(left_half(40, 40), frame="crop", crop=tuple(TO_ORIGINAL.ravel())), CROP)


def test_a_turned_crop() -> None:
    # A quarter turn: the file's x runs down the image.
    turned = (0.0, -1.0, 99.0, 1.0, 0.0, 20.0)
    target, reached = placed(left_half(80, 80), frame="crop", crop=turned)
    expected = np.zeros(SIZE, dtype=bool)
    expected[20:60, 20:100] = True
    np.testing.assert_array_equal(target, expected)
    assert reached.sum() == 80 * 80


def test_without_a_face_there_is_no_crop() -> None:
    with pytest.raises(ValueError, match="no face was found in this image"):
        placed(left_half(40, 40), aligned=None, frame="aligned")
