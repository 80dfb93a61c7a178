import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from s3pot.alignment import align_face, to_original_frame

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
        face = align_face(np.zeros((height, width, 3), np.uint8), "none", 256)
        assert face is not None
        assert max(face.image.shape[:2]) == 256
        assert mapped(face.to_original, -0.5, -0.5) == pytest.approx([-0.5, -0.5])
        rows, cols = face.image.shape[:2]
        assert mapped(face.to_original, cols - 0.5, rows - 0.5) == pytest.approx([width - 0.5, height - 0.5])

    def test_the_shape_is_kept_and_the_long_side_is_the_working_size(self) -> None:
        face = align_face(np.zeros((300, 200, 3), np.uint8), "none", 256)
        assert face is not None
        assert face.image.shape == (256, 171, 3)  # 170.67

    def test_a_picture_of_the_working_size_is_taken_as_it_is(self, rng: np.random.Generator) -> None:
        image = rng.integers(0, 256, (256, 200, 3), dtype=np.uint8)
        face = align_face(image, "none", 256)
        assert face is not None
        np.testing.assert_array_equal(face.image, image)
        np.testing.assert_array_equal(face.to_original, IDENTITY)

    @pytest.mark.parametrize("size", [(250, 200), (40, 64)])
    def test_pixels_show_what_lies_at_their_place(self, size: tuple[int, int]) -> None:
        face = align_face(coordinates(*size), "none", 128)
        assert face is not None
        for x, y in ((5, 7), (60, 40), (90, 70)):
            assert face.image[y, x, :2].tolist() == pytest.approx(mapped(face.to_original, x, y), abs=1)


class TestDetect:
    def test_finds_the_astronaut(self) -> None:
        face = align_face(astronaut(), "detect", 256)
        assert face is not None
        assert face.image.shape == (256, 256, 3)
        # By eye: the eyes lie at about (205, 105) and (243, 105) in the photograph, the mouth at (222, 145).
        to_crop = cv2.invertAffineTransform(face.to_original)
        for x, y in ((205, 105), (243, 105), (222, 145)):
            assert 70 < mapped(to_crop, x, y)[0] < 190
        assert mapped(to_crop, 222, 105)[1] < 145 < mapped(to_crop, 222, 145)[1] < 215

    def test_the_crop_shows_what_lies_at_its_place(self) -> None:
        photo = cv2.GaussianBlur(astronaut(), (0, 0), 2.0)
        face = align_face(photo, "detect", 256)
        assert face is not None
        y, x = np.mgrid[20:236:8, 20:236:8].astype(np.float32)
        places = np.einsum("ij,jhw->ihw", face.to_original, np.stack([x, y, np.ones_like(x)])).astype(np.float32)
        expected = cv2.remap(photo, places[0], places[1], cv2.INTER_LINEAR)
        assert np.abs(face.image[20:236:8, 20:236:8].astype(float) - expected).max() < 8

    def test_a_larger_photograph_gives_the_same_crop(self) -> None:
        small = align_face(astronaut(), "detect", 256)
        large = align_face(cv2.resize(astronaut(), (1536, 1536), interpolation=cv2.INTER_CUBIC), "detect", 256)
        assert small is not None
        assert large is not None
        assert large.to_original[0, 0] == pytest.approx(3 * small.to_original[0, 0], rel=0.1)
        for x, y in ((0, 0), (255, 255)):
            ours = (np.array(mapped(large.to_original, x, y)) + 0.5) / 3 - 0.5
            np.testing.assert_allclose(ours, mapped(small.to_original, x, y), atol=12)

    def test_the_largest_face_counts(self) -> None:
        half = cv2.resize(astronaut()[:256, 96:352], (160, 160), interpolation=cv2.INTER_AREA)
        photo = np.full((512, 700, 3), 127, np.uint8)
        photo[10:170, 10:170] = half
        photo[:, 188:] = astronaut()
        face = align_face(photo, "detect", 256)
        alone = align_face(astronaut(), "detect", 256)
        assert face is not None
        assert alone is not None
        np.testing.assert_allclose(face.to_original[:, 2] - alone.to_original[:, 2], [188, 0], atol=15)

    @pytest.mark.parametrize("shape", [(300, 300), (20, 20), (5, 400), (1, 1)])
    def test_no_face_is_none(self, shape: tuple[int, int]) -> None:
        assert align_face(np.full((*shape, 3), 128, np.uint8), "detect", 256) is None

    def test_a_face_at_the_edge_is_continued_by_its_mirror_image(self) -> None:
        cut = np.maximum(astronaut(), 40)[60:, 150:]
        face = align_face(cut, "detect", 256)
        assert face is not None
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
        face = align_face(np.zeros((1000, 700, 3), np.uint8), "none", 256)
        assert face is not None
        everywhere = np.ones(face.image.shape[:2])
        np.testing.assert_allclose(to_original_frame(everywhere, face.to_original, (1000, 700)), 1.0)

    def test_the_same_frame_is_untouched(self, rng: np.random.Generator) -> None:
        values = rng.random((20, 30))
        np.testing.assert_array_equal(to_original_frame(values, IDENTITY, (20, 30)), values.astype(np.float32))

    @pytest.mark.parametrize("mode", ["none", "detect"])
    def test_round_trip_of_a_mask(self, mode: str) -> None:
        photo = astronaut()
        face = align_face(photo, mode, 256)
        assert face is not None
        drawn = np.zeros((512, 512), np.uint8)
        cv2.ellipse(drawn, (222, 115), (50, 65), 0, 0, 360, 1, -1)
        to_crop = cv2.invertAffineTransform(face.to_original)
        in_crop = cv2.warpAffine(drawn.astype(np.float32), to_crop, face.image.shape[1::-1]) > 0.5
        back = to_original_frame(in_crop.astype(np.float32), face.to_original, (512, 512)) > 0.5
        assert (back & (drawn > 0)).sum() / (back | (drawn > 0)).sum() > 0.96
