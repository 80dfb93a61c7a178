import math

import numpy as np
import pytest

from s3pot.metrics.boundary import (
    boundary_iou,
    boundary_score,
    default_band_px,
    default_tolerance_px,
    inner_boundary,
)


def square(size: int, rows: slice, columns: slice) -> np.ndarray:
    region = np.zeros((size, size), dtype=bool)
    region[rows, columns] = True
    return region


def test_boundary_of_a_square_is_its_rim():
    region = square(5, slice(1, 4), slice(1, 4))
    rim = region.copy()
    rim[2, 2] = False
    assert np.array_equal(inner_boundary(region), rim)


def test_the_frame_is_no_boundary():
    region = square(4, slice(None), slice(0, 2))
    assert np.argwhere(inner_boundary(region)).tolist() == [[0, 1], [1, 1], [2, 1], [3, 1]]
    assert not inner_boundary(np.ones((3, 3), dtype=bool)).any()


def test_one_pixel_off_by_one_by_hand():
    predicted, truth = square(4, slice(0, 1), slice(0, 1)), square(4, slice(0, 1), slice(1, 2))
    assert boundary_score(predicted, truth, tolerance_px=0.0).f == 0.0
    assert boundary_score(predicted, truth, tolerance_px=1.0).f == 1.0


def test_precision_recall_and_f_by_hand():
    # Truth: the left column's right edge, 4 boundary pixels. Prediction: its lower half and one stray pixel far off.
    truth = square(8, slice(0, 4), slice(0, 1))
    predicted = square(8, slice(2, 4), slice(0, 1)) | square(8, slice(7, 8), slice(7, 8))
    score = boundary_score(predicted, truth, tolerance_px=0.0)
    assert score.precision == 2 / 3
    assert score.recall == 2 / 4
    assert score.f == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))


def test_tolerance_is_euclidean():
    predicted, truth = square(5, slice(0, 1), slice(0, 1)), square(5, slice(1, 2), slice(1, 2))
    assert boundary_score(predicted, truth, tolerance_px=1.4).f == 0.0
    assert boundary_score(predicted, truth, tolerance_px=1.5).f == 1.0


def test_default_tolerance_follows_the_diagonal():
    assert default_tolerance_px(256, 256) == 3
    assert default_tolerance_px(1024, 1024) == 11
    assert default_tolerance_px(4, 4) == 1


def test_empty_cases():
    empty, full, some = np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool), square(4, slice(0, 2), slice(0, 2))
    for predicted in (empty, some, full):
        assert math.isnan(boundary_score(predicted, empty).f)
    missed = boundary_score(empty, some)
    assert (missed.recall, missed.f) == (0.0, 0.0)
    assert math.isnan(missed.precision)
    assert boundary_score(full, full).f == 1.0
    assert boundary_score(some, full).f == 0.0
    assert boundary_score(full, some).f == 0.0
    assert boundary_score(empty, full).f == 0.0


def slow_boundary(region: np.ndarray) -> list[tuple[int, int]]:
    height, width = region.shape
    return [
        (r, c)
        for r in range(height)
        for c in range(width)
        if region[r, c]
        and any(
            0 <= r + dr < height and 0 <= c + dc < width and not region[r + dr, c + dc]
            for dr, dc in ((1, 0), (-1, 0), (0, 1), (0, -1))
        )
    ]


def slow_f(predicted: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    a, b = slow_boundary(predicted), slow_boundary(truth)
    precision = np.mean([min(math.dist(p, q) for q in b) <= tolerance for p in a])
    recall = np.mean([min(math.dist(p, q) for q in a) <= tolerance for p in b])
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 2.3])
@pytest.mark.parametrize("seed", range(3))
def test_equals_all_pairs_of_boundary_pixels(seed, tolerance):
    predicted, truth = np.random.default_rng(seed).random((2, 11, 8)) < [[[0.15]], [[0.1]]]
    assert boundary_score(predicted, truth, tolerance_px=tolerance).f == pytest.approx(
        slow_f(predicted, truth, tolerance)
    )


def test_swapping_the_masks_swaps_precision_and_recall():
    predicted, truth = np.random.default_rng(0).random((2, 12, 12)) < 0.2
    one, other = boundary_score(predicted, truth, tolerance_px=1.0), boundary_score(truth, predicted, tolerance_px=1.0)
    assert (one.precision, one.recall, one.f) == (other.recall, other.precision, other.f)


def test_wrong_inputs_are_named():
    region = np.zeros((4, 4), dtype=bool)
    with pytest.raises(ValueError, match=r"truth must be .* got int64"):
        boundary_score(region, region.astype(np.int64))
    with pytest.raises(ValueError, match="tolerance_px must be at least 0; got -1"):
        boundary_score(region, region, tolerance_px=-1.0)
    with pytest.raises(ValueError, match="tolerance_px"):
        boundary_score(region, region, tolerance_px=math.nan)


def test_boundary_iou_by_hand():
    # Two 3 x 3 squares side by side, one column apart: bands of one pixel are rims of 8, which share 4 of 12 pixels.
    first, second = square(7, slice(2, 5), slice(1, 4)), square(7, slice(2, 5), slice(2, 5))
    assert boundary_iou(first, second, band_px=1) == 4 / 12
    # Of bands of two pixels nothing is left out: plain IoU.
    assert boundary_iou(first, second, band_px=2) == 6 / 12
    assert default_band_px(256, 256) == 7
    assert default_band_px(4, 4) == 1


def test_boundary_iou_of_empty_cases():
    empty, full, some = np.zeros((9, 9), dtype=bool), np.ones((9, 9), dtype=bool), square(9, slice(0, 2), slice(0, 2))
    assert math.isnan(boundary_iou(some, empty))
    assert boundary_iou(empty, some) == 0.0
    assert boundary_iou(full, full) == 1.0
    with pytest.raises(ValueError, match="band_px must be at least 1; got 0"):
        boundary_iou(full, full, band_px=0)


def slow_band(region: np.ndarray, band: int) -> set[tuple[int, int]]:
    height, width = region.shape

    def outside(r: int, c: int) -> bool:
        return not (0 <= r < height and 0 <= c < width) or not region[r, c]

    steps = range(-band, band + 1)
    return {
        (r, c)
        for r in range(height)
        for c in range(width)
        if region[r, c] and any(outside(r + dr, c + dc) for dr in steps for dc in steps)
    }


@pytest.mark.parametrize("band", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_equals_squares_around_every_pixel(seed, band):
    coarse = np.random.default_rng(seed).random((2, 5, 4)) < 0.6
    predicted, truth = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
    a, b = slow_band(predicted, band), slow_band(truth, band)
    assert boundary_iou(predicted, truth, band_px=band) == len(a & b) / len(a | b)
