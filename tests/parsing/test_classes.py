from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s3pot.parsing.classes import CLASSES, FACE_CLASSES, celebamask_to_12, face_mask

# The order of merged CelebAMask-HQ label maps, and what each becomes.
CELEBAMASK = [
    ("background", "background"),
    ("skin", "skin"),
    ("nose", "nose"),
    ("eye_g", "eye_glass"),
    ("l_eye", "eyes"),
    ("r_eye", "eyes"),
    ("l_brow", "eyebrows"),
    ("r_brow", "eyebrows"),
    ("l_ear", "ears"),
    ("r_ear", "ears"),
    ("mouth", "mouth"),
    ("u_lip", "lip"),
    ("l_lip", "lip"),
    ("hair", "hair"),
    ("hat", "background"),
    ("ear_r", "ear_rings"),
    ("neck_l", "below_face"),
    ("neck", "below_face"),
    ("cloth", "background"),
]


def test_the_twelve_classes_in_order() -> None:
    names = "background lip eyebrows eyes hair nose skin ears below_face mouth eye_glass ear_rings"
    assert " ".join(CLASSES) == names


def test_the_face_is_six_classes() -> None:
    assert sorted(CLASSES[label] for label in FACE_CLASSES) == ["eyebrows", "eyes", "lip", "mouth", "nose", "skin"]


def test_every_celebamask_label_by_hand() -> None:
    converted = celebamask_to_12(np.arange(19, dtype=np.uint8).reshape(1, 19))
    assert converted.dtype == np.uint8
    assert [CLASSES[label] for label in converted[0]] == [name for _, name in CELEBAMASK]


@pytest.mark.parametrize("label", [19, 255])
def test_another_label_order_is_an_error(label: int) -> None:
    with pytest.raises(ValueError, match=f"got {label}"):
        celebamask_to_12(np.array([[0, label]], dtype=np.uint8))


def test_an_empty_label_map_stays_empty() -> None:
    assert celebamask_to_12(np.empty((0, 4), dtype=np.uint8)).shape == (0, 4)


def test_face_mask_by_hand() -> None:
    parsing = np.array([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]], dtype=np.uint8)
    expected = [[False, True, True, True, False, True], [True, False, False, True, False, False]]
    assert face_mask(parsing).tolist() == expected


def test_real_label_maps_hold_a_face_in_the_middle(shared_data: Path) -> None:
    for path in sorted((shared_data / "celebamask" / "train" / "labels").glob("*.png"))[:5]:
        with Image.open(path) as opened:
            face = face_mask(celebamask_to_12(np.asarray(opened)))
        assert 0.1 < face.mean() < 0.6
        rows, cols = np.nonzero(face)
        assert 0.3 < rows.mean() / face.shape[0] < 0.7
        assert 0.3 < cols.mean() / face.shape[1] < 0.7
