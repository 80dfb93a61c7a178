import math

import numpy as np
import pytest

from s3pot.metrics.per_image import METRIC_COLUMNS, measure_image


def image(*pixels: int) -> np.ndarray:
    return np.array(pixels, dtype=bool).reshape(2, 2)


EMPTY, FULL = image(0, 0, 0, 0), image(1, 1, 1, 1)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def defined(row: dict[str, float]) -> set[str]:
    return {name for name, value in row.items() if not math.isnan(value)}


def test_every_metric_of_four_pixels_by_hand():
    # Pixels: 0 occluded face; 1 occluded face missed by the parser; 2 free face; 3 hair taken for face.
    row = measure_image(
        image(1, 0, 1, 0),
        image(1, 0, 1, 1),
        true_occlusion=image(1, 1, 0, 1),
        true_region=image(1, 1, 1, 0),
        occlusion_score=0.7,
        occlusion_prompts=ids(0, 2),
        face_prompts=ids(3),
        token_grid=(2, 2),
    )
    assert tuple(row) == METRIC_COLUMNS
    assert row == {
        "iou_face_mask": 1 / 3,
        "iou_region": 1 / 3,
        "iou_unclipped": 1 / 3,
        "precision": 1 / 2,
        "recall": 1 / 2,
        "boundary_f": 1.0,  # every pixel lies within 1 px of a true one, and the other way round
        "boundary_iou": 1 / 3,  # one pixel is its own band
        "fb_iou": (1 / 3 + 1 / 3) / 2,  # rest: 1 and 3 predicted, 2 and 3 true
        "truth_outside_face_mask": 1 / 2,
        "prompt_precision": 1 / 2,
        "prompt_recall": 1.0,  # only token 0 is occluded and inside the face mask
        "face_prompt_precision": 0.0,  # token 3 is hair
        "face_prompt_recall": 0.0,  # token 2 was wanted
        "intersection": 1.0,
        "union": 3.0,
        "truth_pixels": 2.0,
        "truth_share": pytest.approx(200 / 3),
        "thin_share": 0.0,  # it touches the frame: it goes on outside
        "false_positive_area": pytest.approx(100 / 3),
        "occlusion_score": 0.7,
        "occlusion_prompt_count": 2.0,
        "face_prompt_count": 1.0,
    }


def test_a_clean_face_is_judged_by_its_false_positives():
    row = measure_image(
        image(1, 0, 0, 0),
        FULL,
        true_occlusion=EMPTY,
        true_region=FULL,
        occlusion_prompts=ids(0),
        face_prompts=ids(1, 2),
        token_grid=(2, 2),
    )
    assert row["false_positive_area"] == 25.0
    assert (row["truth_pixels"], row["truth_share"]) == (0.0, 0.0)
    assert row["face_prompt_precision"] == 1.0
    assert row["face_prompt_recall"] == 0.5
    assert {"iou_face_mask", "iou_region", "precision", "recall", "boundary_f", "prompt_precision"}.isdisjoint(
        defined(row)
    )


def test_an_empty_prediction_counts_as_zero():
    row = measure_image(
        EMPTY,
        EMPTY,
        true_occlusion=FULL,
        true_region=FULL,
        occlusion_prompts=ids(),
        face_prompts=ids(),
        token_grid=(2, 2),
    )
    assert (row["iou_face_mask"], row["recall"], row["boundary_f"]) == (0.0, 0.0, 0.0)
    assert row["truth_outside_face_mask"] == 1.0
    assert (row["occlusion_prompt_count"], row["face_prompt_count"]) == (0.0, 0.0)
    assert {"precision", "prompt_precision", "prompt_recall", "false_positive_area"}.isdisjoint(defined(row))


def test_unknown_truth_leaves_only_what_needs_none():
    row = measure_image(
        FULL,
        FULL,
        true_occlusion=None,
        true_region=None,
        occlusion_score=0.2,
        occlusion_prompts=ids(1),
        token_grid=(2, 2),
    )
    assert defined(row) == {"occlusion_score", "occlusion_prompt_count"}


def test_without_clean_labels_truth_is_taken_as_drawn():
    row = measure_image(
        image(1, 1, 0, 0),
        image(1, 0, 1, 0),
        true_occlusion=image(1, 1, 0, 0),
        true_region=None,
        face_prompts=ids(2, 3),
        token_grid=(2, 2),
    )
    assert row["truth_pixels"] == 2.0
    assert row["truth_share"] == pytest.approx(200 / 3)  # of the predicted face and the truth, three pixels
    assert row["iou_face_mask"] == 1 / 2
    assert math.isnan(row["iou_region"])
    assert row["face_prompt_precision"] == 1 / 2  # token 2 is free face, token 3 no face


def test_clipped_boundary_uses_the_headline_clipping():
    truth = np.zeros((40, 40), dtype=bool)
    truth[10:20, 10:20] = True
    stray = truth.copy()
    stray[35, 35] = True
    face = np.ones_like(truth)
    face[30:, 30:] = False
    assert measure_image(stray, face, true_occlusion=truth, true_region=None)["boundary_f"] == 1.0


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="token_grid"):
        measure_image(FULL, FULL, true_occlusion=FULL, true_region=FULL, face_prompts=ids(0))
    with pytest.raises(ValueError, match="predicted_face_mask must have the shape"):
        measure_image(FULL, FULL.reshape(1, 4), true_occlusion=None, true_region=None)
    with pytest.raises(ValueError, match="true_region must"):
        measure_image(FULL, FULL, true_occlusion=FULL, true_region=FULL.astype(np.uint8))
