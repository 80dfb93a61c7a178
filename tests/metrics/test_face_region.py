import numpy as np
import pytest

from s3pot.metrics.face_region import face_region, truth_inside_region

BACKGROUND, LIP, EYEBROWS, EYES, HAIR, NOSE, SKIN, EARS, BELOW_FACE, MOUTH, EYE_GLASS, EAR_RINGS = range(12)


def test_six_classes_are_face_and_six_are_not():
    parsing = np.arange(12, dtype=np.uint8).reshape(2, 6)
    inside = {LIP, EYEBROWS, EYES, NOSE, SKIN, MOUTH}
    assert face_region(parsing).ravel().tolist() == [label in inside for label in range(12)]


def test_an_enclosed_hole_is_filled_and_an_open_bay_is_not():
    parsing = np.full((5, 5), SKIN, dtype=np.uint8)
    parsing[1, 1] = EYE_GLASS  # enclosed
    parsing[3, 3:] = HAIR  # reaches the frame
    region = face_region(parsing)
    assert region[1, 1]
    assert not region[3, 3:].any()
    assert region.sum() == 23


def test_no_face_gives_an_empty_region():
    assert not face_region(np.full((3, 3), HAIR, dtype=np.uint8)).any()


def test_an_unknown_label_is_an_error():
    with pytest.raises(ValueError, match="got 18"):
        face_region(np.full((2, 2), 18, dtype=np.uint8))


def test_truth_is_the_occluder_inside_the_region():
    occluder = np.array([[1, 1], [0, 0]], dtype=bool)
    region = np.array([[1, 0], [1, 0]], dtype=bool)
    assert truth_inside_region(occluder, region).tolist() == [[True, False], [False, False]]


def test_truth_needs_one_shape():
    with pytest.raises(ValueError, match="region must have the shape"):
        truth_inside_region(np.zeros((2, 2), dtype=bool), np.zeros((2, 3), dtype=bool))
