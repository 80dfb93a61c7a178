import math

import numpy as np
import pytest

from s3pot.metrics.abstention import (
    auroc,
    choose_abstention_threshold,
    false_positive_area,
    false_positive_rate,
    share_above,
)


def image(*pixels: int) -> np.ndarray:
    return np.array(pixels, dtype=bool).reshape(2, 2)


def test_false_positive_area_by_hand():
    face = image(1, 1, 1, 0)
    assert false_positive_area(image(1, 0, 0, 1), face) == pytest.approx(
        100 / 3
    )  # the pixel beside the face is no matter
    assert false_positive_area(image(0, 0, 0, 0), face) == 0.0
    assert false_positive_area(image(1, 1, 1, 1), face) == 100.0
    assert false_positive_area(image(1, 1, 0, 0), face, true_occlusion=image(1, 0, 0, 0)) == pytest.approx(100 / 3)
    assert math.isnan(false_positive_area(image(1, 1, 1, 1), image(0, 0, 0, 0)))


def test_false_positive_area_names_what_is_wrong():
    with pytest.raises(ValueError, match="predicted_face_mask must have the shape"):
        false_positive_area(image(1, 0, 0, 0), np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match=r"true_occlusion must be .* got uint8"):
        false_positive_area(image(1, 0, 0, 0), image(1, 1, 1, 1), true_occlusion=np.zeros((2, 2), dtype=np.uint8))


def test_share_above_is_strict():
    assert share_above([0.0, 1.0, 1.01, 50.0]) == 0.5
    assert share_above([1.0, 3.0], limit_percent=5.0) == 0.0
    assert math.isnan(share_above([]))
    with pytest.raises(ValueError, match="1 NaN"):
        share_above([math.nan, 1.0])


def test_auroc_by_hand():
    assert auroc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auroc([0.0], [1.0]) == 0.0
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert auroc([0.9, 0.4], [0.5, 0.4]) == (1 + 1 + 0 + 0.5) / 4
    assert math.isnan(auroc([], [1.0]))
    assert math.isnan(auroc([1.0], []))


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_all_pairs_with_ties(seed):
    rng = np.random.default_rng(seed)
    occluded, clean = rng.integers(0, 8, 31) / 8, rng.integers(0, 6, 17) / 8
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in occluded for b in clean]
    assert auroc(occluded, clean) == sum(pairs) / len(pairs)


def test_auroc_ignores_monotone_change_and_mirrors():
    rng = np.random.default_rng(0)
    occluded, clean = rng.normal(1, 1, 20), rng.normal(0, 1, 30)
    assert auroc(np.exp(occluded), np.exp(clean)) == auroc(occluded, clean)
    assert auroc(clean, occluded) == pytest.approx(1 - auroc(occluded, clean))
    assert auroc(occluded, [-math.inf]) == 1.0


def test_auroc_refuses_nan():
    with pytest.raises(ValueError, match=r"clean_scores .* 1 NaN"):
        auroc([1.0], [math.nan])


def test_false_positive_rate_counts_scores_that_reach_the_threshold():
    scores = [0.1, 0.5, 0.9]
    assert false_positive_rate(scores, 0.5) == pytest.approx(2 / 3)
    assert false_positive_rate(scores, np.nextafter(0.5, 1)) == pytest.approx(1 / 3)
    assert false_positive_rate(scores, -math.inf) == 1.0
    assert math.isnan(false_positive_rate([], 0.5))


def test_threshold_by_hand():
    scores, areas = [0.9, 0.7, 0.5, 0.3], [20.0, 0.5, 8.0, 2.0]  # wrongly marked: 0.9, 0.5, 0.3
    none = choose_abstention_threshold(scores, areas, max_share=0.0)
    assert none.threshold == np.nextafter(0.9, 1)
    assert (none.share_marked, none.share_marked_before, none.faces) == (0.0, 0.75, 4)
    quarter = choose_abstention_threshold(scores, areas, max_share=0.25)
    assert quarter.threshold == np.nextafter(0.5, 1)
    assert quarter.share_marked == 0.25
    assert choose_abstention_threshold(scores, areas, max_share=0.5).threshold == np.nextafter(0.3, 1)
    assert choose_abstention_threshold(scores, areas, max_share=0.75).threshold == -math.inf


def test_tied_faces_are_abstained_together():
    choice = choose_abstention_threshold([0.5, 0.5, 0.5, 0.1], [9.0, 9.0, 9.0, 0.0], max_share=0.5)
    assert choice.threshold == np.nextafter(0.5, 1)
    assert choice.share_marked == 0.0


def test_nothing_marked_means_never_abstain():
    choice = choose_abstention_threshold([0.2, 0.4], [0.0, 1.0], max_share=0.0)
    assert (choice.threshold, choice.share_marked) == (-math.inf, 0.0)


@pytest.mark.parametrize("max_share", [0.0, 0.05, 0.1, 0.33, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_threshold_is_the_smallest_that_holds(seed, max_share):
    rng = np.random.default_rng(seed)
    scores, areas = rng.integers(0, 20, 40) / 20, rng.exponential(1.0, 40)

    def share_marked(threshold: float) -> float:
        return sum(1 for s, a in zip(scores, areas, strict=True) if s >= threshold and a > 1.0) / 40

    choice = choose_abstention_threshold(scores, areas, max_share=max_share)
    assert choice.share_marked == share_marked(choice.threshold) <= max_share
    if choice.threshold > -math.inf:
        assert share_marked(np.nextafter(choice.threshold, -math.inf)) > max_share
    else:
        assert share_marked(-math.inf) <= max_share


def test_threshold_refuses_bad_input():
    with pytest.raises(ValueError, match="one score and one area"):
        choose_abstention_threshold([0.1], [1.0, 2.0], max_share=0.1)
    with pytest.raises(ValueError, match="one score and one area"):
        choose_abstention_threshold([], [], max_share=0.1)
    with pytest.raises(ValueError, match=r"max_share must be in \[0, 1\]; got 5"):
        choose_abstention_threshold([0.1], [1.0], max_share=5.0)
