"""The measuring of a SAM whose answer is the occluder, whatever it is asked."""

from collections.abc import Callable

import pandas as pd
import pytest

from s3pot.ladder import LadderImage
from s3pot.scorecard.ceiling import measure_ceilings
from s3pot.scorecard.nano_sam import NUMBERS, WRONG_SHARES, estimate_nano_sam, measure_nano_sam
from s3pot.scorecard.targets import composite_pictures
from tests.scorecard.conftest import KnownSam


@pytest.fixture
def table(make_composite: Callable[..., LadderImage], known_sam: KnownSam) -> pd.DataFrame:
    return measure_nano_sam(composite_pictures([make_composite("a"), make_composite("b")]), known_sam)


def test_iou_is_that_of_the_known_answer(table: pd.DataFrame) -> None:
    iou = table.groupby("measure")["iou"].agg(["min", "max"])
    for measure in ("occluder/1+0", "occluder/3+3", "occluder/10+10", "number/400", "wrong/0.30"):
        assert iou.loc[measure].tolist() == [1.0, 1.0]
    assert iou.loc["visible_face/1"].tolist() == [0.0, 0.0]
    assert iou.loc["part/3+3"].tolist() == [0.0, 0.0]


def test_beyond_the_face_the_answer_does_not_count(
    make_composite: Callable[..., LadderImage], known_sam: KnownSam
) -> None:
    entry = make_composite()
    entry.image[:, :8, 0] = 255  # the answer goes on beside the face, where no truth is known
    entry.image[8:24, 40:56, 0] = 255  # and takes 16 x 16 of the face beside 16 x 32 of occluder
    table = measure_nano_sam(composite_pictures([entry]), known_sam).set_index("measure")
    assert table.loc["occluder/3+3", "iou"] == pytest.approx(512 / 768)


def test_every_question_is_asked_once_per_picture(table: pd.DataFrame) -> None:
    counts = table["measure"].value_counts()
    assert len(counts) == 3 + len(NUMBERS) + len(WRONG_SHARES) + 2
    assert (counts == 2).all()
    points = table.set_index("measure").loc[lambda rows: rows["id"] == "a"]
    assert (points.loc["occluder/10+10", "positives"], points.loc["occluder/10+10", "negatives"]) == (10, 10)
    # 512 of 2304 pixels are occluded: 22 of 100 points.
    assert (points.loc["number/100", "positives"], points.loc["number/100", "negatives"]) == (22, 78)
    assert (points.loc["wrong/0.00", "positives"], points.loc["visible_face/1", "negatives"]) == (22, 0)


def test_wrong_shares_start_from_the_same_points(
    make_composite: Callable[..., LadderImage], known_sam: KnownSam
) -> None:
    measure_nano_sam(composite_pictures([make_composite()]), known_sam)
    points, polarity = known_sam.asked[0]  # one batch, padded with points at (0, 0), where there is no face
    hundred = (points.sum(dim=2) > 0).sum(dim=1) == 100
    points, polarity = points[hundred, :100], polarity[hundred, :100]
    # First the 100 points of "number", then one set per share of wrong ones.
    assert len(points) == 1 + len(WRONG_SHARES)
    assert not (points[0] == points[1]).all()
    assert (points[1:] == points[1]).all()
    flipped = polarity[1:] != polarity[1]
    assert flipped.sum(dim=1).tolist() == [0, 5, 10, 20, 30]
    assert all((flipped[place + 1] | ~flipped[place]).all() for place in range(len(flipped) - 1))  # nested


def test_estimates_carry_their_ceiling(make_composite: Callable[..., LadderImage], known_sam: KnownSam) -> None:
    pictures = composite_pictures([make_composite("a"), make_composite("b")])
    found = estimate_nano_sam(measure_nano_sam(pictures, known_sam), measure_ceilings(pictures, known_sam))
    assert found["sam/occluder/1+0"].mean == 1.0
    assert found["sam/number/50"].ceiling == found["sam/occluder/1+0"].ceiling == 1.0
    assert found["sam/visible_face/1"].n == 2
