import cv2
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from s3pot.baselines.difference import feature_difference, pixel_difference
from s3pot.baselines.stored_face import StoredFace


def test_pixels_above_otsus_threshold_of_the_face(rng: np.random.Generator) -> None:
    reference = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8)
    picture = np.clip(reference.astype(int) + rng.integers(-8, 8, reference.shape), 0, 255).astype(np.uint8)
    picture[20:40, 20:40] = 250
    picture[:, 60:] = 0  # outside the face nothing is marked, and nothing counts for the threshold
    face = np.zeros((64, 64), dtype=bool)
    face[8:56, 8:56] = True
    marked = pixel_difference(picture, reference, face)
    blurred = cv2.GaussianBlur(np.abs(picture.astype(np.float32) - reference).mean(axis=2), (0, 0), 0.64)
    np.testing.assert_array_equal(marked, face & (blurred > threshold_otsu(blurred[face])))
    true = np.zeros_like(face)
    true[20:40, 20:40] = True
    assert (marked & true).sum() / (marked | true).sum() > 0.9


def test_without_a_face_nothing_is_marked() -> None:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    assert not pixel_difference(picture, picture + 9, np.zeros((8, 8), dtype=bool)).any()


def test_tokens_that_differ_become_pixels(half_covered: StoredFace) -> None:
    marked = feature_difference(half_covered, 64)
    # Tokens of columns 1 and 2 differ, at pixels 8 to 24. Beyond the face column 0 agrees: the value rises from there.
    columns = np.flatnonzero(marked[32])
    assert (columns.min(), columns.max()) == (pytest.approx(8, abs=4), pytest.approx(23, abs=4))
    assert not marked[:, 28:].any()
    assert not (marked & ~half_covered.full_face).any()
