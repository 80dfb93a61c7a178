import math

import numpy as np
import pandas as pd
import pytest

from analysis.figures.gains import draw_before_after, draw_gains
from s3pot.metrics import Interval

MEAN = Interval(mean=0.05, low=-0.02, high=0.12, n=4, level=0.95)


@pytest.fixture
def images() -> pd.DataFrame:
    """Two gain, one loses, one stays, one has no truth."""
    before, after = [0.5, 0.5, 0.5, 0.5, math.nan], [0.7, 0.6, 0.4, 0.5, math.nan]
    return pd.DataFrame({"iou_before": before, "iou_face_mask": after})


def test_every_image_is_counted_on_its_side_of_zero(images: pd.DataFrame) -> None:
    drawing = draw_gains(images, MEAN)
    assert drawing is not None
    bars = [bar for bar in drawing.figure.axes[0].containers[0] if bar.get_height()]
    centers = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert sum(bar.get_height() for bar in bars) == 4
    np.testing.assert_allclose(sorted(centers), [-0.1, 0.0, 0.1, 0.2], atol=0.01)
    assert len({bar.get_facecolor() for bar in bars}) == 2
    assert "2 images gain, 1 lose" in drawing.explanation
    assert "n = 4 images; dashed: mean +0.050 [−0.020, +0.120]" in drawing.figure.get_supxlabel()


def test_points_before_and_after(images: pd.DataFrame) -> None:
    drawing = draw_before_after(images)
    assert drawing is not None
    points = drawing.figure.axes[0].lines[1]
    np.testing.assert_allclose(points.get_xdata(), [0.5] * 4)
    np.testing.assert_allclose(points.get_ydata(), [0.7, 0.6, 0.4, 0.5])


def test_without_truth_there_is_nothing_to_draw(images: pd.DataFrame) -> None:
    assert draw_gains(images * math.nan, MEAN) is None
    assert draw_before_after(images * math.nan) is None
