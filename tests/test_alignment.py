import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from s3pot.alignment import FaceAligner, crop_face, resize_picture, to_original_frame
from s3pot.locator import LocatedFace
from tests.stand_ins import ASTRONAUT, FixedLocator, astronaut_aligner

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def mapped(to_original: np.ndarray, x: float, y: float) -> list[float]:
    return (to_original @ [x, y, 1.0]).tolist()


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose red is x and whose green is y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


class TestNone:
    @pytest.mark.parametrize("size", [(512, 512), (300, 200), (100, 250), (61, 47), (256, 256), (1, 3)])
    def test_corners_of_the_crop_are_corners_of_the_picture(self, size: tuple[int, int]) -> None:
        """A corner lies half a pixel outside the centre of the outermost pixel, in both frames."""
        height, width = size
        face = resize_picture(np.zeros((height, width, 3), np.uint8), 256)
        assert max(face.image.shape[:2]) == 256
        assert mapped(face.to_original, -0.5, -0.5) == pytest.approx([-0.5, -0.5])
        rows, cols = face.image.shape[:2]
        assert mapped(face.to_original, cols - 0.5, rows - 0.5) == pytest.approx([width - 0.5, height - 0.5])

    def test_the_shape_is_kept_and_the_long_side_is_the_working_size(self) -> None:
        face = resize_picture(np.zeros((300, 200, 3), np.uint8), 256)
        assert face.image.shape == (256, 171, 3)  # 170.67

    def test_a_picture_of_the_working_size_is_taken_as_it_is(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 256, (256, 200, 3), dtype=np.uint8)
        face = resize_picture(image, 256)
        np.testing.assert_array_equal(face.image, image)
        np.testing.assert_array_equal(face.to_original, IDENTITY)

    @pytest.mark.parametrize("size", [(250, 200), (40, 64)])
    def test_pixels_show_what_lies_at_their_place(self, size: tuple[int, int]) -> None:
        face = resize_picture(coordinates(*size), 128)
        for x, y in ((5, 7), (60, 40), (90, 70)):
            assert face.image[y, x, :2].tolist() == pytest.approx(mapped(face.to_original, x, y), abs=1)


class TestDetect:
    def test_the_most_prominent_face_is_cropped(self) -> None:
        """Neither the smallest sure one nor the largest doubtful one."""
        faces = [
            LocatedFace(x=0.2, y=0.2, side=0.2, score=0.95),
            LocatedFace(x=0.7, y=0.6, side=0.4, score=0.9),
            LocatedFace(x=0.2, y=0.8, side=0.5, score=0.35),
        ]
        found = FaceAligner("detect", FixedLocator(*faces).eval()).align(astronaut(), 256)
        assert found is not None
        expected = crop_face(astronaut(), LocatedFace(x=0.7 * 512 - 0.5, y=0.6 * 512 - 0.5, side=0.4 * 512), 256)
        np.testing.assert_allclose(found.to_original, expected.to_original, atol=1e-2)
        assert np.abs(found.image.astype(int) - expected.image).max() <= 4

    def test_places_come_back_in_the_pixels_of_a_photograph_of_any_shape(self) -> None:
        photograph = np.hstack([astronaut(), astronaut()])  # 512 x 1024: shares are of 1024
        found = FaceAligner("detect", FixedLocator(LocatedFace(x=0.25, y=0.3, side=0.2)).eval()).align(photograph, 200)
        assert found is not None
        expected = crop_face(photograph, LocatedFace(x=255.5, y=306.7, side=204.8), 200)
        np.testing.assert_allclose(found.to_original, expected.to_original, atol=1e-2)

    @pytest.mark.parametrize("shape", [(300, 300), (20, 20), (5, 400), (1, 1)])
    def test_no_face_is_none(self, shape: tuple[int, int]) -> None:
        assert astronaut_aligner().align(np.full((*shape, 3), 128, np.uint8), 256) is None

    def test_without_a_locator_it_is_refused(self) -> None:
        with pytest.raises(ValueError, match="needs a face locator"):
            FaceAligner("detect")

    def test_it_survives_pickling(self) -> None:
        """Encoding actors get their own."""
        aligner = astronaut_aligner()
        again = pickle.loads(pickle.dumps(aligner)).align(astronaut(), 256)
        first = aligner.align(astronaut(), 256)
        assert first is not None
        np.testing.assert_array_equal(again.image, first.image)


class TestCrop:
    def test_a_level_crop_by_hand(self) -> None:
        # A side of 8 in 4 pixels: crop pixels are two photograph pixels wide, the crop spans 10.5 to 18.5 in x.
        face = crop_face(coordinates(60, 60), LocatedFace(x=14.5, y=30.5, side=8.0), 4)
        np.testing.assert_allclose(face.to_original, [[2, 0, 11.5], [0, 2, 27.5]])
        np.testing.assert_allclose(face.image[0, :, 0], [12, 14, 16, 18], atol=1)  # 11.5, 13.5 ...
        np.testing.assert_allclose(face.image[:, 0, 1], [28, 30, 32, 34], atol=1)

    def test_a_quarter_turn_by_hand(self) -> None:
        """With the right side of the crop turned down, going right in the crop goes down in the photograph."""
        face = crop_face(coordinates(60, 60), LocatedFace(x=20.0, y=30.0, side=5.0, roll=np.pi / 2), 5)
        assert mapped(face.to_original, 2, 2) == pytest.approx([20, 30])
        assert mapped(face.to_original, 4, 2) == pytest.approx([20, 32])
        assert face.image[2, :, 1].tolist() == [28, 29, 30, 31, 32]
        assert face.image[:, 2, 0].tolist() == [22, 21, 20, 19, 18]

    def test_the_face_of_a_tilted_photograph_comes_out_upright(self) -> None:
        level = crop_face(astronaut(), ASTRONAUT, 128)
        tilt = cv2.getRotationMatrix2D((256, 256), -20.0, 1.0)  # OpenCV turns to the left: a face that falls right
        tilted = cv2.warpAffine(astronaut(), tilt, (512, 512), flags=cv2.INTER_CUBIC)
        x, y = tilt @ [ASTRONAUT.x, ASTRONAUT.y, 1.0]
        face = replace(ASTRONAUT, x=float(x), y=float(y), roll=np.radians(20.0))
        turned_back = crop_face(tilted, face, 128)
        assert np.abs(turned_back.image.astype(float) - level.image).mean() < 3.0
        assert np.abs(crop_face(tilted, replace(face, roll=0.0), 128).image.astype(float) - level.image).mean() > 15.0

    def test_pixels_show_what_lies_at_their_place(self) -> None:
        photo = cv2.GaussianBlur(astronaut(), (0, 0), 2.0)
        face = crop_face(photo, replace(ASTRONAUT, roll=0.3), 256)
        y, x = np.mgrid[20:236:8, 20:236:8].astype(np.float32)
        places = np.einsum("ij,jhw->ihw", face.to_original, np.stack([x, y, np.ones_like(x)])).astype(np.float32)
        expected = cv2.remap(photo, places[0], places[1], cv2.INTER_LINEAR)
        assert np.abs(face.image[20:236:8, 20:236:8].astype(float) - expected).max() < 8

    def test_a_crop_that_leaves_the_photograph_is_continued_by_its_mirror_image(self) -> None:
        face = crop_face(np.maximum(astronaut(), 40)[60:, 150:], replace(ASTRONAUT, x=70.0, y=45.0), 256)
        assert mapped(face.to_original, 0, 0)[1] < -1, "the crop should reach out of this photograph"
        assert face.image.min() >= 39, "there is a black border"


class TestToOriginalFrame:
    def test_hand_worked(self) -> None:
        # Crop pixels are two photograph pixels wide: centres 0..3 of the photograph lie at -0.25, 0.25, 0.75, 1.25.
        twice = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]])
        found = to_original_frame(np.array([[0.0, 1.0], [0.0, 1.0]]), twice, (4, 4))
        np.testing.assert_allclose(found, [[0, 0.25, 0.75, 1]] * 4, atol=1e-6)
        assert found.dtype == np.float32

    def test_shifted_by_whole_pixels(self) -> None:
        values = np.array([[1.0, 2.0], [3.0, 4.0]])
        right_and_down = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
        expected = [[0, 0, 0, 0, 0], [0, 0, 1, 2, 0], [0, 0, 3, 4, 0]]
        np.testing.assert_allclose(to_original_frame(values, right_and_down, (3, 5)), expected, atol=1e-6)
        np.testing.assert_allclose(to_original_frame(values, right_and_down, (3, 5), outside=9.0)[0], [9] * 5)

    def test_a_full_map_covers_the_crop_and_nothing_else(self) -> None:
        """Neither does it fill the photograph, nor fade out before the edges of the crop."""
        thrice = np.array([[3.0, 0.0, 30.0 + 1.0], [0.0, 3.0, 6.0 + 1.0]])  # crop: columns 30..59, rows 6..35
        found = to_original_frame(np.full((10, 10), 0.7), thrice, (50, 80))
        expected = np.zeros((50, 80))
        expected[6:36, 30:60] = 0.7
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_corners_of_a_resized_picture_are_kept(self) -> None:
        face = resize_picture(np.zeros((1000, 700, 3), np.uint8), 256)
        everywhere = np.ones(face.image.shape[:2])
        np.testing.assert_allclose(to_original_frame(everywhere, face.to_original, (1000, 700)), 1.0)

    def test_the_same_frame_is_untouched(self, rng: np.random.Generator) -> None:
        values = rng.random((20, 30))
        np.testing.assert_array_equal(to_original_frame(values, IDENTITY, (20, 30)), values.astype(np.float32))

    @pytest.mark.parametrize("roll", [None, 0.0, 0.4], ids=["whole", "level", "rolled"])
    def test_round_trip_of_a_mask(self, roll: float | None) -> None:
        photo = astronaut()
        face = resize_picture(photo, 256) if roll is None else crop_face(photo, replace(ASTRONAUT, roll=roll), 256)
        drawn = np.zeros((512, 512), np.uint8)
        cv2.ellipse(drawn, (222, 110), (45, 55), 0, 0, 360, 1, -1)
        to_crop = cv2.invertAffineTransform(face.to_original)
        in_crop = cv2.warpAffine(drawn.astype(np.float32), to_crop, face.image.shape[1::-1]) > 0.5
        back = to_original_frame(in_crop.astype(np.float32), face.to_original, (512, 512)) > 0.5
        assert (back & (drawn > 0)).sum() / (back | (drawn > 0)).sum() > 0.96
