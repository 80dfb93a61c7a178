import math

import numpy as np
import pytest

from s3pot.metrics.occlusion_iou import (
    Overlap,
    count_overlap,
    foreground_background_iou,
    mean_of_defined,
    occlusion_overlaps,
    pooled_iou,
    share_of_truth_outside_face_mask,
)


def image(*pixels: int) -> np.ndarray:
    return np.array(pixels, dtype=bool).reshape(2, 2)


EMPTY, FULL = image(0, 0, 0, 0), image(1, 1, 1, 1)


def test_four_pixels_by_hand():
    overlap = count_overlap(image(1, 1, 0, 0), image(0, 1, 1, 1))
    assert overlap == Overlap(intersection=1, union=4, predicted=2, truth=3)
    assert (overlap.iou, overlap.precision, overlap.recall) == (1 / 4, 1 / 2, 1 / 3)


def test_three_clippings_by_hand():
    # Pixels: 0 occluded face; 1 occluded face missed by the parser; 2 hair taken for face; 3 background.
    overlaps = occlusion_overlaps(
        FULL, image(1, 0, 1, 0), true_occlusion=image(1, 1, 0, 1), true_region=image(1, 1, 0, 0)
    )
    assert overlaps.face_mask.iou == 1 / 3  # predicted 0, 2; truth 0, 1
    assert overlaps.region.iou == 1.0  # predicted 0, 1; truth 0, 1
    assert overlaps.unclipped.iou == 2 / 4
    assert overlaps.face_mask.precision == 1 / 2
    assert overlaps.face_mask.recall == 1 / 2


def test_the_occluder_beside_the_face_is_no_truth():
    overlaps = occlusion_overlaps(
        image(0, 0, 0, 1), FULL, true_occlusion=image(0, 0, 0, 1), true_region=image(1, 1, 1, 0)
    )
    assert overlaps.unclipped.truth == 0
    assert math.isnan(overlaps.unclipped.iou)


@pytest.mark.parametrize("predicted", [EMPTY, image(1, 0, 0, 0), FULL])
def test_without_truth_nothing_is_defined(predicted):
    overlap = count_overlap(predicted, EMPTY)
    assert math.isnan(overlap.iou)
    assert math.isnan(overlap.precision)
    assert math.isnan(overlap.recall)


def test_an_empty_prediction_scores_zero_and_claims_nothing():
    overlap = count_overlap(EMPTY, image(1, 0, 0, 0))
    assert (overlap.iou, overlap.recall) == (0.0, 0.0)
    assert math.isnan(overlap.precision)


def test_all_occluded_and_found_is_one():
    overlap = count_overlap(FULL, FULL)
    assert (overlap.iou, overlap.precision, overlap.recall) == (1.0, 1.0, 1.0)


def slow_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    a = {(r, c) for r in range(truth.shape[0]) for c in range(truth.shape[1]) if predicted[r, c]}
    b = {(r, c) for r in range(truth.shape[0]) for c in range(truth.shape[1]) if truth[r, c]}
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("seed", range(5))
def test_equals_sets_of_pixels_in_every_clipping(seed):
    rng = np.random.default_rng(seed)
    predicted, face, occluder, region = rng.random((4, 9, 7)) < 0.6
    overlaps = occlusion_overlaps(predicted, face, true_occlusion=occluder, true_region=region)
    truth = occluder & region
    assert overlaps.face_mask.iou == slow_iou(predicted & face, truth)
    assert overlaps.region.iou == slow_iou(predicted & region, truth)
    assert overlaps.unclipped.iou == slow_iou(predicted, truth)


@pytest.mark.parametrize("seed", range(3))
def test_flipping_all_images_changes_nothing_and_iou_is_below_precision_and_recall(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 6, 6)) < 0.5
    predicted, face, occluder, region = masks
    flipped = masks[:, ::-1, ::-1]
    overlaps = occlusion_overlaps(predicted, face, true_occlusion=occluder, true_region=region)
    assert overlaps == occlusion_overlaps(flipped[0], flipped[1], true_occlusion=flipped[2], true_region=flipped[3])
    assert overlaps.region.iou >= overlaps.unclipped.iou  # pixels outside R are never right
    assert overlaps.face_mask.iou <= min(overlaps.face_mask.precision, overlaps.face_mask.recall)


def test_share_of_truth_outside_the_face_mask():
    truth, region = image(1, 1, 1, 1), image(1, 1, 1, 0)
    share = share_of_truth_outside_face_mask(image(1, 0, 0, 1), true_occlusion=truth, true_region=region)
    assert share == 2 / 3
    assert share_of_truth_outside_face_mask(EMPTY, true_occlusion=truth, true_region=region) == 1.0
    assert math.isnan(share_of_truth_outside_face_mask(FULL, true_occlusion=EMPTY, true_region=region))


def test_means_say_how_many_images_they_used():
    mean = mean_of_defined([0.5, math.nan, 1.0])
    assert (mean.mean, mean.used, mean.undefined) == (0.75, 2, 1)
    nothing = mean_of_defined([math.nan])
    assert math.isnan(nothing.mean)
    assert (nothing.used, nothing.undefined) == (0, 1)
    assert math.isnan(mean_of_defined([]).mean)


def test_pooled_iou_weighs_pixels():
    assert pooled_iou([1, 9], [10, 10]) == 0.5
    assert pooled_iou([1, 90], [10, 100]) == 91 / 110
    assert math.isnan(pooled_iou([], []))
    assert math.isnan(pooled_iou([0], [0]))


def test_pooled_iou_refuses_what_is_no_count():
    with pytest.raises(ValueError, match="one length"):
        pooled_iou([1, 2], [3])
    with pytest.raises(ValueError, match="intersection <= union"):
        pooled_iou([4], [3])
    with pytest.raises(ValueError, match="intersection <= union"):
        pooled_iou([math.nan], [3])


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match=r"predicted must be .* got uint8 \(2, 2\)"):
        count_overlap(EMPTY.astype(np.uint8), EMPTY)
    with pytest.raises(ValueError, match=r"true_region must have the shape \(2, 2\) .* got \(1, 4\)"):
        occlusion_overlaps(EMPTY, EMPTY, true_occlusion=EMPTY, true_region=EMPTY.reshape(1, 4))
    with pytest.raises(ValueError, match="true_occlusion"):
        share_of_truth_outside_face_mask(EMPTY, true_occlusion=EMPTY.astype(float), true_region=EMPTY)


def test_foreground_and_background_by_hand():
    # Occluded: one of three pixels agrees; the rest: one of three.
    assert foreground_background_iou(image(1, 1, 0, 0), image(0, 1, 1, 0)) == (1 / 3 + 1 / 3) / 2
    assert foreground_background_iou(FULL, FULL) == 1.0
    assert foreground_background_iou(FULL, image(1, 0, 0, 0)) == (1 / 4 + 0) / 2
    assert math.isnan(foreground_background_iou(image(1, 0, 0, 0), EMPTY))
