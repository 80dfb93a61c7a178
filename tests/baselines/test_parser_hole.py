import numpy as np
import torch

from s3pot.baselines.parser_hole import parser_holes
from s3pot.parsing.classes import CLASSES, face_mask
from s3pot.parsing.network import FaceParser
from s3pot.reference.generator import one_hot_parsing
from tests.faces import draw_face
from tests.stand_ins import answering


def test_the_hole_is_what_the_parser_calls_no_face() -> None:
    picture, parsing = draw_face(64)
    full_face = face_mask(parsing)
    seen = parsing.copy()
    seen[30:40, 20:30] = CLASSES.index("hair")
    seen[2:6, 2:6] = CLASSES.index("skin")  # outside the full face
    parser = answering(FaceParser, one_hot_parsing(torch.from_numpy(seen)[None]))
    [hole] = parser_holes(parser.eval(), [picture], [full_face])
    expected = np.zeros((64, 64), dtype=bool)
    expected[30:40, 20:30] = full_face[30:40, 20:30]
    np.testing.assert_array_equal(hole, expected)


def test_a_picture_that_is_not_square_is_padded_and_cut() -> None:
    picture, parsing = draw_face(64)
    parser = answering(FaceParser, one_hot_parsing(torch.from_numpy(parsing)[None]))
    full_face = np.ones((64, 48), dtype=bool)
    [hole] = parser_holes(parser.eval(), [picture[:, :48].copy()], [full_face])
    np.testing.assert_array_equal(hole, ~face_mask(parsing)[:, :48])
