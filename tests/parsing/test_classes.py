from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from s3pot.parsing.classes import (
    CELEBAMASK_GLASSES,
    CELEBAMASK_HAT,
    CLASSES,
    FACE_CLASSES,
    LABEL_ORDERS,
    LabelOrder,
    celebamask_to_12,
    face_mask,
    labels_to_12,
    table_to_12,
)

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
# Where each of those stands in the other orders, counted by hand in the sources that `LABEL_ORDERS` names.
IDS_OF_OTHER_ORDERS = {
    "face_parsing_pytorch": [0, 1, 10, 6, 4, 5, 2, 3, 7, 8, 11, 12, 13, 17, 18, 9, 15, 14, 16],
    "segface": [0, 2, 10, 15, 8, 9, 6, 7, 4, 5, 11, 13, 12, 14, 16, 17, 18, 1, 3],
}


def test_the_twelve_classes_in_order() -> None:
    names = "background lip eyebrows eyes hair nose skin ears below_face mouth eye_glass ear_rings"
    assert " ".join(CLASSES) == names


def test_the_face_is_six_classes() -> None:
    assert sorted(CLASSES[label] for label in FACE_CLASSES) == ["eyebrows", "eyes", "lip", "mouth", "nose", "skin"]


def test_every_celebamask_label_by_hand() -> None:
    converted = celebamask_to_12(np.arange(19, dtype=np.uint8).reshape(1, 19))
    assert converted.dtype == np.uint8
    assert [CLASSES[label] for label in converted[0]] == [name for _, name in CELEBAMASK]


def test_glasses_and_hat_of_celebamask_by_hand() -> None:
    assert (CELEBAMASK[CELEBAMASK_GLASSES][0], CELEBAMASK[CELEBAMASK_HAT][0]) == ("eye_g", "hat")


def test_every_order_is_named_and_holds_the_same_19_classes() -> None:
    assert set(LABEL_ORDERS) == set(get_args(LabelOrder)) == {"celebamask_hq", *IDS_OF_OTHER_ORDERS}
    assert all(sorted(names) == sorted(name for name, _ in CELEBAMASK) for names in LABEL_ORDERS.values())
    assert list(LABEL_ORDERS["celebamask_hq"]) == [name for name, _ in CELEBAMASK]


@pytest.mark.parametrize("order", IDS_OF_OTHER_ORDERS)
def test_every_label_of_the_other_orders_by_hand(order: LabelOrder) -> None:
    ids = IDS_OF_OTHER_ORDERS[order]
    assert [LABEL_ORDERS[order][label] for label in ids] == [name for name, _ in CELEBAMASK]
    converted = labels_to_12(np.array(ids, dtype=np.uint8), order)
    assert converted.dtype == np.uint8
    assert [CLASSES[label] for label in converted] == [name for _, name in CELEBAMASK]


def test_a_batch_of_label_maps_keeps_its_shape() -> None:
    assert labels_to_12(np.zeros((2, 3, 4), dtype=np.uint8), "segface").shape == (2, 3, 4)


@pytest.mark.parametrize("order", get_args(LabelOrder))
def test_an_id_beyond_the_order_is_an_error_that_names_both(order: LabelOrder) -> None:
    with pytest.raises(ValueError, match=f"{order} labels .* got 19"):
        labels_to_12(np.array([3, 19], dtype=np.uint8), order)


def test_an_unknown_order_is_an_error_that_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'bisenet'.*celebamask_hq, face_parsing_pytorch, segface"):
        table_to_12.__wrapped__("bisenet")  # past the type checks of the tests, as a user calls it


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
