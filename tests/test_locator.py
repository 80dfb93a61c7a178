import math

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from s3pot.embedded import load_locator
from s3pot.locator import FaceLocator, FaceMaps, LocatedFace, decode_faces, letterbox, locate_faces, without_doubles
from tests.stand_ins import ASTRONAUT, FixedLocator


def empty_maps(cells: int = 20) -> FaceMaps:
    """No face anywhere; crops as large as the picture, level."""
    turn = torch.zeros(2, cells, cells)
    turn[1] = 1.0
    return FaceMaps(torch.full((cells, cells), -20.0), torch.zeros(2, cells, cells), torch.zeros(cells, cells), turn)


class TestDecode:
    def test_one_face_by_hand(self) -> None:
        maps = empty_maps()
        maps.score[5, 12] = math.log(4)  # a probability of 0.8
        maps.offset[:, 5, 12] = torch.tensor([0.25, -0.5])
        maps.log_side[5, 12] = math.log(0.5)
        maps.turn[:, 5, 12] = torch.tensor([1.0, 1.0])  # not normalised: 45 degrees all the same
        [face] = decode_faces(maps)
        # Cell 12 spans pixels 96 to 103, its middle lies at 99.5; a quarter of a cell further right are 2 px.
        assert (face.x, face.y) == pytest.approx((101.5, 39.5))
        assert face.side == pytest.approx(80.0)
        assert face.roll == pytest.approx(math.pi / 4)
        assert face.score == pytest.approx(0.8)

    def test_nothing_below_the_threshold(self) -> None:
        maps = empty_maps()
        maps.score[5, 12] = math.log(0.29 / 0.71)
        assert decode_faces(maps) == []
        maps.score[5, 12] = math.log(0.31 / 0.69)
        assert len(decode_faces(maps)) == 1

    def test_of_a_hill_only_the_top_is_a_face(self) -> None:
        maps = empty_maps()
        maps.log_side.fill_(math.log(0.1))  # small enough that neighbours are not the same face for their distance
        rows, cols = np.mgrid[:20, :20]
        maps.score.copy_(torch.from_numpy(2.0 - 0.5 * ((rows - 7) ** 2 + (cols - 3) ** 2)))
        [face] = decode_faces(maps)
        assert (face.x, face.y) == pytest.approx((27.5, 59.5))

    def test_the_surest_comes_first_and_far_faces_stay(self) -> None:
        maps = empty_maps()
        maps.log_side.fill_(math.log(0.25))
        for column, score in ((2, 1.0), (10, 3.0), (18, 2.0)):
            maps.score[10, column] = score
        assert [round(face.x / 8 - 0.44) for face in decode_faces(maps)] == [10, 18, 2]


class TestDoubles:
    def test_the_surer_of_two_close_ones_stays(self) -> None:
        sure, close = (
            LocatedFace(x=50.0, y=50.0, side=100.0, score=0.9),
            LocatedFace(x=79.0, y=50.0, side=60.0, score=0.8),
        )
        apart = LocatedFace(x=50.0, y=81.0, side=60.0, score=0.7)  # more than 0.3 x 100 away from the first
        assert without_doubles([close, apart, sure]) == [sure, apart]

    def test_the_larger_crop_says_what_is_close(self) -> None:
        small, large = (
            LocatedFace(x=50.0, y=50.0, side=10.0, score=0.9),
            LocatedFace(x=70.0, y=50.0, side=100.0, score=0.8),
        )
        assert without_doubles([large, small]) == [small]

    def test_ties_do_not_depend_on_the_order(self) -> None:
        faces = [LocatedFace(x=x, y=y, side=10.0, score=0.5) for x, y in ((10.0, 40.0), (40.0, 10.0), (10.0, 10.0))]
        expected = [faces[2], faces[1], faces[0]]
        assert without_doubles(faces) == without_doubles(faces[::-1]) == expected


class TestLetterbox:
    @pytest.mark.parametrize("shape", [(320, 480), (480, 320), (64, 40), (160, 160), (1, 700)])
    def test_the_picture_lies_in_the_upper_left_at_one_scale(self, shape: tuple[int, int]) -> None:
        small, scale = letterbox(np.full((*shape, 3), 255, np.uint8))
        assert scale == 160 / max(shape)
        white = (small == 255).all(axis=2)
        rows, cols = (max(1, round(extent * scale)) for extent in shape)
        assert white[:rows, :cols].all()
        assert (small[rows:] == 127).all()
        assert (small[:, cols:] == 127).all()


class TestNetwork:
    def test_maps_at_stride_8_for_any_size(self) -> None:
        torch.manual_seed(0)
        locator = FaceLocator().eval()
        for size in (96, 160):
            with torch.no_grad():
                maps = locator(torch.rand(2, 3, size, size))
            cells = size // 8
            assert [tuple(part.shape) for part in maps] == [
                (2, cells, cells),
                (2, 2, cells, cells),
                (2, cells, cells),
                (2, 2, cells, cells),
            ]

    def test_untrained_it_sees_no_faces(self) -> None:
        torch.manual_seed(0)
        assert locate_faces(FaceLocator().eval(), astronaut()) == []


class TestPhotograph:
    def test_faces_come_in_its_own_pixels(self) -> None:
        locator = FixedLocator(
            LocatedFace(x=0.5, y=0.25, side=0.3, roll=-0.2, score=0.6), LocatedFace(x=0.1, y=0.1, side=0.2, score=0.7)
        )
        wide = np.hstack([astronaut(), astronaut()])[:300, :1000]
        first, second = locate_faces(locator.eval(), wide)
        assert (first.x, first.y, first.side) == pytest.approx((99.5, 99.5, 200), abs=0.01)
        assert (second.x, second.y, second.side) == pytest.approx((499.5, 249.5, 300), abs=0.01)
        assert (second.roll, second.score) == pytest.approx((-0.2, 0.6), abs=1e-5)


class TestShipped:
    def test_the_astronaut_is_framed_as_by_eye(self) -> None:
        [face, *_] = locate_faces(load_locator(), astronaut())
        assert face.score > 0.5
        assert math.hypot(face.x - ASTRONAUT.x, face.y - ASTRONAUT.y) < 0.12 * ASTRONAUT.side
        # Her hair makes the crop wide; a parser takes 0.8 to 1.25 without harm.
        assert 0.8 < face.side / ASTRONAUT.side < 1.3
        assert abs(face.roll) < 0.2

    def test_a_mask_over_the_mouth_hides_nobody(self) -> None:
        """The cascade finds no face here."""
        masked = astronaut()
        masked[122:172, 185:262] = (150, 190, 220)
        [face, *_] = locate_faces(load_locator(), masked)
        assert math.hypot(face.x - ASTRONAUT.x, face.y - ASTRONAUT.y) < 0.2 * ASTRONAUT.side
