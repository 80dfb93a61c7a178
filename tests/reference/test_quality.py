import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from s3pot.metrics.face_region import face_region
from s3pot.reference.landmarks import LANDMARKS, LandmarkDetector, read_landmarks
from s3pot.reference.quality import quality_score, ssim_visible
from tests.faces import draw_face
from tests.stand_ins import textured_face


class Brightness(LandmarkDetector):
    """A detector whose heat is the brightness of the picture, the same for every landmark."""

    def forward(self, image: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool2d(image.mean(dim=1, keepdim=True), 4).clamp(1e-6, 1 - 1e-6)
        return small.logit().expand(-1, len(LANDMARKS), -1, -1)


@pytest.fixture
def detector() -> Brightness:
    return Brightness().eval()


def level(value: float) -> np.ndarray:
    return np.full((256, 256, 3), round(255 * value), np.uint8)


def over(name: str, positions: np.ndarray, half: int = 14) -> np.ndarray:
    """An occlusion of 29 x 29 pixels around one landmark."""
    col, row = np.rint(positions[LANDMARKS.index(name)]).astype(int)
    occlusion = np.zeros((256, 256), dtype=bool)
    occlusion[row - half : row + half + 1, col - half : col + half + 1] = True
    return occlusion


def test_by_hand(detector: Brightness) -> None:
    # Reference 0.8 bright, occluded picture 0.2 under the occluder and 0.8 elsewhere: the rest is alike, SSIM 1.
    positions = read_landmarks(draw_face(256)[1])
    occlusion = over("left_eye", positions)
    reference, image = level(0.8), level(0.8)
    image[occlusion] = level(0.2)[0, 0]
    inside = [name for name, (col, row) in zip(LANDMARKS, positions, strict=True) if occlusion[round(row), round(col)]]
    found = quality_score(detector, reference, image, positions, occlusion)
    assert found.landmarks == len(inside) == 1
    assert found.landmark_confidence == pytest.approx(0.8, abs=0.01)
    # Within reach of the eye lie cells under the occluder only: 1.5 cells are 12 px, the occluder reaches 14.
    assert found.landmark_confidence_occluded_image == pytest.approx(0.2, abs=0.02)
    assert found.ssim_visible == pytest.approx(1.0)
    assert found.score == pytest.approx((0.8 + 1.0) / 2, abs=0.01)
    assert found.positions_from == "labels"


def test_all_covered_landmarks_count_alike(detector: Brightness) -> None:
    positions = read_landmarks(draw_face(256)[1])
    reference = level(0.3)
    reference[128:] = level(0.9)[0, 0]
    everything = np.ones((256, 256), dtype=bool)
    expected = np.where(positions[:, 1] < 128, 0.3, 0.9)
    expected[np.abs(positions[:, 1] - 128) < 13] = 0.9  # the brighter half is in reach
    found = quality_score(detector, reference, level(0.5), positions, everything)
    assert found.landmarks == len(LANDMARKS)
    assert found.landmark_confidence == pytest.approx(expected.mean(), abs=0.01)
    assert np.isnan(found.ssim_visible)
    assert np.isnan(found.score)


def test_no_landmark_under_the_occluder_is_no_score(detector: Brightness) -> None:
    occlusion = np.zeros((256, 256), dtype=bool)
    occlusion[:10, :10] = True
    found = quality_score(detector, level(0.5), level(0.5), read_landmarks(draw_face(256)[1]), occlusion)
    assert found.landmarks == 0
    assert np.isnan(found.landmark_confidence)
    assert np.isnan(found.landmark_confidence_occluded_image)
    assert np.isnan(found.score)
    assert found.ssim_visible == pytest.approx(1.0)


def test_unknown_landmarks_do_not_count(detector: Brightness) -> None:
    positions = read_landmarks(draw_face(256)[1])
    positions[3:] = np.nan
    found = quality_score(detector, level(0.5), level(0.5), positions, np.ones((256, 256), dtype=bool))
    assert found.landmarks == 3
    assert found.landmark_confidence == pytest.approx(0.5, abs=0.01)


def test_without_labels_the_peaks_of_the_reference_are_asked_for(detector: Brightness) -> None:
    # One bright spot, under the occluder: every landmark is found there, and read there in the picture as well.
    reference, image = level(0.1), level(0.1)
    reference[104:112, 64:72] = level(0.7)[0, 0]
    image[104:112, 64:72] = level(0.4)[0, 0]
    occlusion = np.zeros((256, 256), dtype=bool)
    occlusion[90:120, 50:80] = True
    found = quality_score(detector, reference, image, None, occlusion)
    assert found.positions_from == "reference"
    assert found.landmarks == len(LANDMARKS)
    assert found.landmark_confidence == pytest.approx(0.7, abs=0.02)
    assert found.landmark_confidence_occluded_image == pytest.approx(0.4, abs=0.02)
    elsewhere = quality_score(detector, reference, image, None, ~occlusion)
    assert elsewhere.landmarks == 0


def test_ssim_is_that_of_the_whole_picture_when_nothing_is_covered() -> None:
    image, _ = textured_face()
    other, _ = textured_face(seed=1)
    found = ssim_visible(other, image, np.ones((256, 256), dtype=bool))
    # scikit-image's own mean leaves a rim of 3 px out, exactly the windows that are not whole.
    assert found == pytest.approx(structural_similarity(image, other, channel_axis=2, data_range=255), abs=1e-6)


def test_what_lies_under_the_occluder_cannot_change_ssim() -> None:
    image, _ = textured_face()
    reference = np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8)
    visible = np.ones((256, 256), dtype=bool)
    visible[80:150, 90:160] = False
    before = ssim_visible(reference, image, visible)
    changed = image.copy()
    changed[~visible] = 0
    assert ssim_visible(reference, changed, visible) == pytest.approx(before, abs=1e-9)
    changed[60:70, 100:110] = 0
    assert ssim_visible(reference, changed, visible) < before


def test_ssim_counts_in_the_region_only(detector: Brightness) -> None:
    image, parsing = textured_face()
    region = face_region(parsing)
    reference = image.copy()
    reference[:8] = 0  # hair and background: no part of the face
    nothing = np.zeros((256, 256), dtype=bool)
    positions = read_landmarks(parsing)
    assert quality_score(detector, reference, image, positions, nothing, region).ssim_visible == pytest.approx(1.0)
    assert quality_score(detector, reference, image, positions, nothing).ssim_visible < 0.999


def test_pictures_that_do_not_lie_over_one_another_are_refused(detector: Brightness) -> None:
    with pytest.raises(ValueError, match="lie over"):
        quality_score(detector, level(0.5)[:128], level(0.5), None, np.zeros((256, 256), dtype=bool))
    with pytest.raises(ValueError, match="region must have the shape"):
        quality_score(
            detector, level(0.5), level(0.5), None, np.zeros((256, 256), dtype=bool), np.ones((128, 128), dtype=bool)
        )
