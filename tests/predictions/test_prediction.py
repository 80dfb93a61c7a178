from pathlib import Path
from typing import Any

import pytest

from s3pot.parsing.classes import CLASSES
from s3pot.predictions.prediction import Prediction

PATH = Path("a.png")


def names(**changes: Any) -> set[str]:
    prediction = Prediction(path=PATH, encoding="labels", target="parts", **changes)
    return {prediction.class_names()[place] for place in prediction.counted_ids()}


def test_the_face_parts_of_the_known_orders_count_by_themselves() -> None:
    face = {"skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip"}
    for order in ("celebamask_hq", "face_parsing_pytorch", "segface"):
        assert names(label_order=(order,)) == face
    assert names(label_order=("s3pot",)) == {"lip", "eyebrows", "eyes", "nose", "skin", "mouth"}


def test_the_orders_differ_in_their_ids() -> None:
    skin = [
        Prediction(path=PATH, encoding="labels", target="visible_face", label_order=(order,), classes=("skin",))
        for order in ("celebamask_hq", "segface", "s3pot")
    ]
    assert [prediction.counted_ids() for prediction in skin] == [(1,), (2,), (CLASSES.index("skin"),)]


def test_a_named_order_counts_what_is_named() -> None:
    assert names(label_order=("background", "face", "hand"), classes=("face",)) == {"face"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoding": "labels", "target": "parts"}, "needs labels"),
        ({"target": "parts"}, "target=parts needs labels"),
        ({"encoding": "labels"}, "needs a label_order: celebamask_hq, face_parsing_pytorch, segface, s3pot"),
        ({"encoding": "labels", "label_order": ("celeba",)}, "unknown label_order 'celeba'"),
        ({"encoding": "labels", "label_order": ("segface",)}, "classes must name what counts as the occlusion"),
        (
            {"encoding": "labels", "label_order": ("segface",), "classes": ("hand",)},
            "the label order knows no class 'hand'",
        ),
        (
            {"encoding": "labels", "label_order": ("background", "face"), "target": "visible_face"},
            "classes must name what counts as the visible_face",
        ),
        ({"encoding": "color"}, "encoding=color and a color belong together"),
        ({"frame": "crop"}, "frame=crop needs crop"),
        ({"frame": "crop", "crop": (1.0, 2.0)}, "frame=crop needs crop"),
        ({"crop": (1.0, 2.0, 3.0, 4.0)}, "frame=crop needs crop"),
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prediction(path=PATH, **values)
