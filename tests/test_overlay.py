import numpy as np

from s3pot.overlay import FACE, OCCLUSION, draw_overlay


def test_occlusion_is_tinted_and_outlined_and_the_rest_is_as_it_was() -> None:
    image = np.full((400, 500, 3), 100, np.uint8)
    faces, occlusion = np.zeros((400, 500), bool), np.zeros((400, 500), bool)
    faces[100:300, 100:300] = True
    occlusion[180:260, 150:250] = True
    before = image.copy()
    drawn = draw_overlay(image, occlusion, faces)
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape
    assert drawn[220, 200].tolist() == [(100 + part) // 2 for part in OCCLUSION]
    assert drawn[180, 200].tolist() == list(OCCLUSION)
    assert drawn[100, 200].tolist() == list(FACE)
    assert drawn[150, 200].tolist() == [100, 100, 100], "the face itself is not tinted"
    assert (drawn[:90] == 100).all()


def test_of_every_face_and_every_hole() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    faces, occlusion = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    faces[20:80, 20:80] = faces[120:180, 120:180] = True
    occlusion[125:175, 125:175] = True
    occlusion[140:160, 140:160] = False
    drawn = draw_overlay(image, occlusion, faces)
    assert drawn[20, 50].tolist() == drawn[120, 150].tolist() == list(FACE)
    assert drawn[150, 150].tolist() == [0, 0, 0], "a hole of the occlusion is free"


def test_nothing_found_is_the_photograph() -> None:
    image, nowhere = np.full((20, 30, 3), 7, np.uint8), np.zeros((20, 30), bool)
    np.testing.assert_array_equal(draw_overlay(image, nowhere, nowhere), image)
