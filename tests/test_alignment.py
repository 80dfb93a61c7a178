import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from s3pot.alignment import FaceAligner, crop_face, id_of_face, image_of_face, resize_picture, to_original_frame
from s3pot.crop_rule import face_from_landmarks
from s3pot.landmark_file import LandmarkError, LandmarkFile
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


def test_none_takes_the_picture_as_the_only_face() -> None:
    [face] = FaceAligner("none").align_all(astronaut(), 256)
    np.testing.assert_array_equal(face.image, resize_picture(astronaut(), 256).image)


class TestDetect:
    def test_every_face_is_cropped_the_most_prominent_first(self) -> None:
        faces = [
            LocatedFace(x=0.2, y=0.2, side=0.2, score=0.95),
            LocatedFace(x=0.7, y=0.6, side=0.4, score=0.9),
            LocatedFace(x=0.2, y=0.8, side=0.5, score=0.35),
        ]
        aligner = FaceAligner("detect", FixedLocator(*faces).eval())
        found = aligner.align_all(astronaut(), 64)
        centers = [mapped(face.to_original, 31.5, 31.5) for face in found]
        np.testing.assert_allclose((np.array(centers) + 0.5) / 512, [[0.7, 0.6], [0.2, 0.2], [0.2, 0.8]], atol=1e-4)
        first = aligner.align(astronaut(), 64)
        assert first is not None
        np.testing.assert_array_equal(first.image, found[0].image)

    def test_without_a_face_there_is_none_of_many(self) -> None:
        assert astronaut_aligner().align_all(np.full((300, 300, 3), 128, np.uint8), 256) == []

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


# By eye: eyes and mouth corners of scikit-image's astronaut.
POINTS = np.array([[205.0, 105.0], [243.0, 105.0], [209.0, 143.0], [239.0, 143.0]])
COLUMNS = [f"{part}_{axis}" for part in ("left_eye", "right_eye", "left_mouth", "right_mouth") for axis in "xy"]


@pytest.fixture
def landmarks(tmp_path: Path) -> FaceAligner:
    """The astronaut's face under a number of its own behind a smaller one, and one of another photograph."""
    rows = [("a.jpg", 0, POINTS / 2), ("a.jpg", 1, POINTS), ("large.jpg", 0, POINTS * 2)]
    lines = [",".join([name, str(face), *map(str, points.ravel())]) for name, face, points in rows]
    (tmp_path / "landmarks.csv").write_text("\n".join([",".join(["id", "face", *COLUMNS]), *lines]))
    return FaceAligner("landmarks", landmarks=LandmarkFile(tmp_path / "landmarks.csv"))


class TestLandmarks:
    def test_the_largest_face_is_cropped_by_the_rule(self, landmarks: FaceAligner) -> None:
        expected = crop_face(astronaut(), face_from_landmarks(*POINTS), 256)
        first = landmarks.align(astronaut(), 256, "a.jpg")
        assert first is not None
        np.testing.assert_array_equal(first.image, expected.image)
        np.testing.assert_array_equal(first.to_original, expected.to_original)
        found = landmarks.align_all(astronaut(), 256, "a.jpg")
        assert [face.to_original[0, 0] for face in found] == pytest.approx([152 / 256, 76 / 256])
        np.testing.assert_array_equal(found[0].image, expected.image)

    def test_they_give_the_crop_that_was_chosen_by_eye(self, landmarks: FaceAligner) -> None:
        face = landmarks.align(astronaut(), 256, "a.jpg")
        by_eye = crop_face(astronaut(), ASTRONAUT, 256)
        assert face is not None
        np.testing.assert_allclose(face.to_original, by_eye.to_original, atol=1.0)

    def test_an_image_without_a_row_has_no_face(self, landmarks: FaceAligner) -> None:
        assert landmarks.align(astronaut(), 256, "b.jpg") is None
        assert landmarks.align_all(astronaut(), 256, "b.jpg") == []

    def test_of_another_photograph_are_refused(self, landmarks: FaceAligner) -> None:
        assert landmarks.align(np.zeros((1024, 1024, 3), np.uint8), 256, "large.jpg") is not None
        with pytest.raises(LandmarkError, match=r"'large\.jpg'.*outside its 400 x 300 pixels"):
            landmarks.align(np.zeros((300, 400, 3), np.uint8), 256, "large.jpg")

    def test_without_the_id_of_the_image_nothing_can_be_looked_up(self, landmarks: FaceAligner) -> None:
        with pytest.raises(ValueError, match=r"landmarks\.csv gives faces by image id: pass the id"):
            landmarks.align(astronaut(), 256)

    def test_without_a_file_it_is_refused(self) -> None:
        with pytest.raises(ValueError, match="needs a landmark file"):
            FaceAligner("landmarks")


def test_faces_have_ids_and_images_come_back() -> None:
    assert [id_of_face("sub/a.jpg", number) for number in (1, 2, 13)] == ["sub/a.jpg", "sub/a.jpg#2", "sub/a.jpg#13"]
    assert {image_of_face(id_of_face("a#b.jpg", number)) for number in (1, 2, 13)} == {"a#b.jpg"}
    assert image_of_face("a#2") != "a#2", "such an image cannot be told from a face"


def stripes(period: float, size: int = 3000) -> np.ndarray:
    """A picture of level grey waves across."""
    wave = np.round(127.5 + 127.5 * np.cos(2 * np.pi * np.arange(size) / period + 0.3)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(wave[None, :, None], (400, size, 3)))


class TestResampling:
    """At 1024 px, for official networks."""

    @pytest.mark.parametrize("roll", [0.0, 0.05])
    def test_shrinking_turns_fine_stripes_grey_and_keeps_coarse_ones(self, roll: float) -> None:
        """2.9 photograph pixels make one: waves of less than 5.9 pixels would come out as waves that are not there."""
        face = LocatedFace(x=1499.5, y=199.5, side=3000.0, roll=roll)
        left = {}
        for period in (2, 3, 12, 24):
            middle = crop_face(stripes(period), face, 1024).image[480:544, 300:-300, 0]
            left[period] = middle.std() * 2**0.5 / 127.5
        assert left[2] < 0.05  # 0.78 without the blur
        assert left[3] < 0.15  # 0.71
        assert left[12] > 0.8
        assert left[24] > 0.9

    def test_enlarging_invents_nothing(self) -> None:
        face = LocatedFace(x=31.5, y=31.5, side=64.0)
        crop = crop_face(coordinates(64, 64), face, 1024).image
        expected = np.clip((np.arange(1024) + 0.5) / 16 - 0.5, 0, 63)
        assert np.abs(crop[512, :, 0] - expected).max() <= 1
        assert np.abs(crop[:, 512, 1] - expected).max() <= 1


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

    @pytest.mark.parametrize(
        "face",
        [
            LocatedFace(x=150.0, y=90.0, side=60.0, roll=0.4),
            LocatedFace(x=10.0, y=190.0, side=90.0, roll=-2.0),
            LocatedFace(x=100.0, y=100.0, side=500.0),
            LocatedFace(x=-300.0, y=50.0, side=80.0),
        ],
        ids=["inside", "over a corner", "around everything", "beside the photograph"],
    )
    def test_a_window_of_the_photograph_is_enough(self, face: LocatedFace, rng: np.random.Generator) -> None:
        """Against a warp of the whole frame."""
        crop = crop_face(np.zeros((200, 300, 3), np.uint8), face, 64)
        values = rng.random((64, 64), dtype=np.float32)
        whole = cv2.warpAffine(
            values, crop.to_original, (300, 200), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        y, x = np.mgrid[:200, :300]
        inverse = cv2.invertAffineTransform(crop.to_original)
        there = np.stack([x, y, np.ones_like(x)], axis=-1) @ inverse.T
        inside = ((there > -0.45) & (there < 63.45)).all(axis=-1)
        outside = ((there < -0.55) | (there > 63.55)).any(axis=-1)
        found = to_original_frame(values, crop.to_original, (200, 300), outside=0.25)
        np.testing.assert_allclose(found[inside], whole[inside], atol=0.05)
        assert (found[outside] == 0.25).all()

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
