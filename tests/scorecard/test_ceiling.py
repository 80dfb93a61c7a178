"""Ceilings of shapes whose fate on a coarse grid is known."""

import math

import numpy as np
import pytest

from s3pot.scorecard.ceiling import ceiling_iou

EVERYWHERE = np.ones((64, 64), dtype=bool)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((64, 64), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_square_on_the_grid_survives() -> None:
    assert ceiling_iou(box(8, 24, 10, 40), EVERYWHERE, 32, 64) == 1.0


def test_a_line_of_one_pixel_is_lost() -> None:
    assert ceiling_iou(box(20, 21, 0, 64), EVERYWHERE, 32, 64) == 0.0


def test_a_square_off_the_grid_loses_its_corners() -> None:
    # Its edges fill half a cell, and next to full cells come back as 0.625; its corners as 0.625², below one half.
    assert ceiling_iou(box(9, 23, 9, 23), EVERYWHERE, 32, 64) == pytest.approx((14 * 14 - 4) / (14 * 14))


def test_beyond_what_counts_the_truth_goes_on() -> None:
    # The face ends off the grid at column 23, the occluder with it; the decoder need not draw that edge.
    face = box(0, 64, 0, 23)
    occluder = box(8, 24, 0, 23)
    assert ceiling_iou(occluder, face, 32, 64) == 1.0
    assert ceiling_iou(occluder, EVERYWHERE, 32, 64) < 1.0


def test_a_larger_model_frame_and_a_picture_that_is_not_square() -> None:
    inside = np.zeros((48, 64), dtype=bool)
    inside[8:24, 8:24] = True
    assert ceiling_iou(inside, np.ones_like(inside), 64, 256) == 1.0


def test_without_truth_there_is_none() -> None:
    assert math.isnan(ceiling_iou(~EVERYWHERE, EVERYWHERE, 32, 64))
