"""Parsings compared by hand, and a parser that always sees the same face."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from s3pot.ladder import LadderImage
from s3pot.parsing.classes import CLASSES
from s3pot.scorecard.parser import compare_parsings, estimate_parser, measure_parser
from tests.faces import draw_face
from tests.stand_ins import DrawnFaceParser

SKIN, NOSE, HAIR = (CLASSES.index(name) for name in ("skin", "nose", "hair"))


def test_two_parsings_by_hand() -> None:
    found = np.array([[SKIN, SKIN, NOSE, HAIR]], dtype=np.uint8)
    labels = np.array([[SKIN, NOSE, NOSE, SKIN]], dtype=np.uint8)
    counts = compare_parsings(found, labels)
    assert (counts["skin_intersection"], counts["skin_union"]) == (1, 3)
    assert (counts["nose_intersection"], counts["nose_union"]) == (1, 2)
    assert (counts["lip_intersection"], counts["lip_union"]) == (0, 0)
    assert counts["face_iou"] == 0.75


def test_no_face_anywhere_is_undefined() -> None:
    hair = np.full((2, 2), HAIR, dtype=np.uint8)
    assert math.isnan(compare_parsings(hair, hair)["face_iou"])


def test_a_parser_that_is_right_and_one_that_is_not(make_composite: Callable[..., LadderImage]) -> None:
    entries = [make_composite("a"), make_composite("b"), make_composite("c")]
    labels = draw_face(64)[1]
    for entry in entries:
        entry.parsing[...] = labels
    entries[2].row.face_id = entries[0].row.face_id
    table = measure_parser(entries, DrawnFaceParser())
    assert table["picture"].value_counts().to_dict() == {"occluded": 3, "clean": 2}  # a face is clean once
    found = estimate_parser(table)
    assert found["parser/classes_clean"].mean == 1.0
    assert found["parser/face_occluded"].mean == 1.0
    entries[0].parsing[entries[0].parsing == NOSE] = SKIN
    found = estimate_parser(measure_parser(entries[:1], DrawnFaceParser()))
    skin, nose = (labels == SKIN).sum(), (labels == NOSE).sum()
    # The nose is lost, the skin has too little, four classes are right; the face as a whole is unchanged.
    assert found["parser/classes_occluded"].mean == pytest.approx((4 + skin / (skin + nose)) / 6)
    assert found["parser/face_occluded"].mean == 1.0
