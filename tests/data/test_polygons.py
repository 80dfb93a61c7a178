import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import distance

from s3pot.data.polygons import fill, outlines, rasterise

SIZE = (6, 8)


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_a_polygon_along_pixel_edges_gives_exactly_those_pixels() -> None:
    corner = np.array([[1, 1], [6, 1], [6, 3], [3, 3], [3, 5], [1, 5]], dtype=float)
    expected = picture("........", ".#####..", ".#####..", ".##.....", ".##.....", "........")
    np.testing.assert_array_equal(rasterise(corner, SIZE), expected)
    np.testing.assert_array_equal(rasterise(corner[::-1], SIZE), expected)
    np.testing.assert_array_equal(rasterise(np.roll(corner, 2, axis=0), SIZE), expected)


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    # A right triangle: the centres (c + 0.5, r + 0.5) with x + y < 4.9, that is c + r <= 3.
    triangle = np.array([[0, 0], [4.9, 0], [0, 4.9]])
    expected = picture("####....", "###.....", "##......", "#.......", "........", "........")
    np.testing.assert_array_equal(rasterise(triangle, SIZE), expected)


def test_any_polygon_agrees_with_a_test_of_every_centre(rng: np.random.Generator) -> None:
    def crossed(x: float, y: float, polygon: np.ndarray) -> bool:
        inside = False
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
            if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                inside = not inside
        return inside

    for number in range(60):
        # Half of them small, so that their box is a part of the picture.
        spread = (-4, 14) if number % 2 else (1.3, 4.6)
        polygon = rng.uniform(*spread, size=(int(rng.integers(3, 9)), 2))
        expected = [[crossed(col + 0.5, row + 0.5, polygon) for col in range(8)] for row in range(6)]
        np.testing.assert_array_equal(rasterise(polygon, SIZE), expected)


def test_polygons_with_a_common_edge_share_the_pixels_out(rng: np.random.Generator) -> None:
    for _ in range(20):
        # Ends of the common edge on centres of pixels and anywhere: ties must go to one side.
        upper, lower = rng.integers(0, 8) + 0.5, rng.uniform(0, 8)
        left = rasterise(np.array([[0, 0], [upper, 0], [lower, 6], [0, 6]]), SIZE)
        right = rasterise(np.array([[upper, 0], [8, 0], [8, 6], [lower, 6]]), SIZE)
        assert (left ^ right).all()


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    beyond = np.array([[-5, -3], [3, -3], [3, 20], [-5, 20]], dtype=float)
    np.testing.assert_array_equal(rasterise(beyond, SIZE), np.arange(8)[None, :].repeat(6, axis=0) < 3)
    assert not rasterise(beyond + 30, SIZE).any()
    assert not rasterise(beyond - 30, SIZE).any()


def blobs(rng: np.random.Generator, size: tuple[int, int] = (120, 150), smooth: float = 4.0) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(size), smooth)
    return noise > 0


RING = picture("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######")


def test_at_tolerance_zero_polygons_are_exact(rng: np.random.Generator) -> None:
    masks = [RING, rng.random((40, 30)) > 0.5, np.ones(SIZE, dtype=bool), np.eye(9, dtype=bool), blobs(rng)]
    for mask in masks:
        made = outlines(mask, None, tolerance_px=0.0)
        assert made.iou == 1.0
        assert made.tolerance_px == 0.0
        np.testing.assert_array_equal(fill(made.occlusion, mask.shape), mask)


def test_a_ring_around_a_ring_is_two_areas_with_a_hole_each() -> None:
    made = outlines(RING, None, tolerance_px=0.0)
    assert [len(area.holes) for area in made.occlusion] == [1, 1]


def test_pixels_that_touch_at_corners_are_areas_of_their_own() -> None:
    assert len(outlines(np.eye(4, dtype=bool), None, tolerance_px=0.0).occlusion) == 4


def test_nothing_is_no_polygon() -> None:
    made = outlines(np.zeros(SIZE, dtype=bool), None)
    assert made.occlusion == made.region == ()
    assert made.iou == 1.0


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_the_border_is_nowhere_farther_than_stated(rng: np.random.Generator, tolerance: float) -> None:
    mask = blobs(rng, smooth=8.0)
    exact = outlines(mask, None, tolerance_px=0.0)
    made = outlines(mask, None, tolerance_px=tolerance, least_iou=0.0, specks_px=0)
    assert made.tolerance_px == tolerance
    dense = [_dense(border) for area in made.occlusion for border in (area.outer, *area.holes)]
    corners = np.concatenate([border for area in exact.occlusion for border in (area.outer, *area.holes)])
    assert distance.cdist(corners, np.concatenate(dense)).min(axis=1).max() <= tolerance + 0.05
    assert sum(map(len, dense)), "there is something to compare"
    assert sum(len(area.outer) for area in made.occlusion) < sum(len(area.outer) for area in exact.occlusion) / 2


def _dense(border: np.ndarray) -> np.ndarray:
    """Points every 0.05 px or so along a closed border."""
    ends = np.roll(border, -1, axis=0)
    return np.concatenate(
        [
            np.linspace(one, other, int(np.hypot(*(other - one)) / 0.05) + 2)
            for one, other in zip(border, ends, strict=True)
        ]
    )


def test_small_masks_get_a_smaller_tolerance(rng: np.random.Generator) -> None:
    small = np.zeros((40, 40), dtype=bool)
    small[5:8, 5:9] = small[20, 3:30] = True
    made = outlines(small, None, tolerance_px=3.0)
    assert made.iou >= 0.98
    assert made.tolerance_px < 3.0
    assert not np.array_equal(fill(made.occlusion, small.shape), ~small)


def test_specks_are_left_out_only_while_the_iou_holds() -> None:
    large, speck = np.zeros((2, 60, 60), dtype=bool)
    large[10:50, 10:50] = True
    speck[2:4, 2:4] = True
    assert len(outlines(large | speck, None).occlusion) == 1
    alone = outlines(speck, None)
    assert (len(alone.occlusion), alone.iou) == (1, 1.0)


def test_truth_and_region_hold_together(rng: np.random.Generator) -> None:
    # The occluder ends at the border of the region, where two simplified borders would leave slivers.
    rows, cols = np.mgrid[:200, :200]
    region = np.hypot(rows - 100, cols - 100) < 80
    occlusion = region & (np.hypot(rows - 60, cols - 130) < 45)
    made = outlines(occlusion, region, tolerance_px=4.0, least_iou=0.98)
    given_back = fill(made.occlusion, region.shape) & fill(made.region, region.shape)
    iou = (given_back & occlusion).sum() / (given_back | occlusion).sum()
    assert made.iou == pytest.approx(iou)
    assert iou >= 0.98
    assert made.tolerance_px < 4.0
