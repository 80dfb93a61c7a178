"""The texts below were made by pycocotools 2.0.11, the authors' own code."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from s3pot.data.run_lengths import decode_runs, encode_runs


def bars() -> np.ndarray:
    mask = np.zeros((90, 70), dtype=bool)
    mask[10:80, 5:9] = mask[3, :] = mask[40:, 60:] = True
    return mask


BARS = "31i2000000000]MU27kMIU27kMIU27kMIU27kM\\2" + "0" * 101 + "[N" + "a1oN_NQ1" * 9 + "a1"
THEIRS = [
    (bars(), BARS),
    (np.zeros((5, 7), dtype=bool), "S1"),
    (np.ones((5, 7), dtype=bool), "0S1"),
    (np.tri(12, 9, dtype=bool), "0<1O1O1O1O1O1O1O1O"),
    (np.eye(6, dtype=bool), "016000000000"),
    (np.arange(2000).reshape(40, 50) == 1999, "_n11"),
]


@pytest.mark.parametrize(("mask", "text"), THEIRS)
def test_both_ways_as_the_authors_do(mask: np.ndarray, text: str) -> None:
    assert encode_runs(mask) == {"size": list(mask.shape), "counts": text}
    np.testing.assert_array_equal(decode_runs({"size": list(mask.shape), "counts": text}, mask.shape), mask)


def test_runs_go_down_the_columns_and_start_with_false() -> None:
    mask = np.array([[0, 1, 0], [0, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(decode_runs({"size": [2, 3], "counts": [2, 2, 1, 1]}, (2, 3)), mask)
    np.testing.assert_array_equal(decode_runs({"size": [1, 2], "counts": [0, 2]}, (1, 2)), [[True, True]])


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_runs(encode_runs(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ({"size": [2, 3], "counts": [2, 2]}, "runs of 4 pixels in all for a picture of 2 x 3"),
        ({"size": [2, 3], "counts": [2, 2, 3]}, "runs of 7 pixels"),
        ({"size": [2, 3], "counts": [9, -3]}, "neither a list of lengths"),
        ({"size": [2, 3], "counts": [2.0, 4]}, "neither a list of lengths"),
        ({"size": [2, 3], "counts": {"a": 1}}, "neither a list of lengths"),
        ({"size": [2, 3]}, "neither a list of lengths"),
        ({"size": [3, 2], "counts": [6]}, r"of size \[3, 2\] for a picture of height 2 and width 3"),
        ({"counts": [6]}, "of size None"),
        ([6], "of size list"),
        ({"size": [2, 3], "counts": "6~"}, "no part of a length"),
        ({"size": [2, 3], "counts": "6\x7f"}, "no part of a length"),
        ({"size": [2, 3], "counts": "6P"}, "end within a length"),
        ({"size": [2, 3], "counts": "o" * 40}, "no part of a length"),
        ({"size": [2, 3], "counts": "7O"}, "neither a list of lengths"),  # 7, -1
        ({"size": [2, 3], "counts": ""}, "runs of 0 pixels"),
    ],
)
def test_what_does_not_add_up(encoded: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_runs(encoded, (2, 3))
