import numpy as np
import pytest

from analysis import stage_pictures
from analysis.stage_pictures import PANEL_SIDE, panel_frame, whole_picture_frame
from s3pot.alignment import resize_picture
from s3pot.parsing.classes import CLASSES
from tests.faces import draw_face

IDENTITY = np.eye(2, 3)


def has_color(panel: np.ndarray, color: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return np.abs(panel.astype(int) - color).max(axis=2) <= tolerance


def test_the_colors_of_all_classes_but_background_differ() -> None:
    assert sorted(stage_pictures.CLASS_COLORS) == sorted(set(CLASSES) - {"background"})
    assert len(set(stage_pictures.CLASS_COLORS.values())) == len(CLASSES) - 1


def test_a_panel_keeps_the_shape_of_the_crop() -> None:
    assert panel_frame((256, 256), IDENTITY).size == (PANEL_SIDE, PANEL_SIDE)
    assert panel_frame((256, 128), IDENTITY).size == (PANEL_SIDE, PANEL_SIDE // 2)
    assert whole_picture_frame((3, 1000)).size == (1, PANEL_SIDE)


def test_the_photograph_is_cropped_where_alignment_cropped_it(rng: np.random.Generator) -> None:
    # A photograph four times the working size, as `none` aligns it: the panel shows what the aligned crop shows.
    small = rng.integers(0, 256, size=(16, 16, 3), dtype=np.uint8)
    photograph = np.kron(small, np.ones((16, 16, 1), dtype=np.uint8))
    face = resize_picture(photograph, 64)
    frame = panel_frame(face.image.shape[:2], face.to_original)
    panel = stage_pictures.warp_picture(photograph, frame)
    centers = (np.arange(16) * PANEL_SIDE // 16) + PANEL_SIDE // 32
    np.testing.assert_array_equal(panel[np.ix_(centers, centers)], small)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 13.7])
def test_masks_land_where_the_transform_says(scale: float) -> None:
    # Crop of 32 px whose pixel (x, y) is the original's scale * (x, y) + (20, 40); the mask covers its left half.
    to_original = np.array([[scale, 0, 20 + scale / 2 - 0.5], [0, scale, 40 + scale / 2 - 0.5]])
    original = np.zeros((600, 600), dtype=bool)
    original[:, : round(20 + 16 * scale)] = True
    frame = panel_frame((32, 32), to_original)
    panel = stage_pictures.warp_mask(original, frame)
    tolerance = 2 + round(PANEL_SIDE / (32 * scale))
    assert panel[:, : PANEL_SIDE // 2 - tolerance].all()
    assert not panel[:, PANEL_SIDE // 2 + tolerance :].any()


def test_outside_the_photograph_there_is_no_mask() -> None:
    to_original = np.array([[1.0, 0, -32], [0, 1, 0]])  # the left half of the crop lies outside
    panel = stage_pictures.warp_mask(np.ones((64, 64), dtype=bool), panel_frame((64, 64), to_original))
    assert not panel[:, : PANEL_SIDE // 2 - 8].any()
    assert panel[:, PANEL_SIDE // 2 + 8 :].all()


def test_parsing_outlines_have_the_color_of_the_class() -> None:
    image, parsing = draw_face(64)
    frame = panel_frame((64, 64), IDENTITY)
    panel = stage_pictures.draw_parsing(stage_pictures.warp_picture(image, frame), parsing, frame)
    for name in ("skin", "hair", "eyes"):
        assert has_color(panel, stage_pictures.CLASS_COLORS[name]).sum() > 20, name
    assert not has_color(panel, stage_pictures.CLASS_COLORS["ear_rings"], 10).any()


def test_similarity_is_drawn_token_by_token_on_one_scale() -> None:
    similarity = np.array([0.0, 0.5, 1.0, 2.0], dtype=np.float32)  # 2 x 2 tokens; above the scale is its end
    frame = panel_frame((64, 64), IDENTITY)
    panel = stage_pictures.draw_similarity(similarity, np.zeros((64, 64), dtype=np.uint8), frame, (0.0, 1.0))
    low, middle, high = stage_pictures.similarity_colors(np.array([[0.0, 0.5, 1.0]]), (0.0, 1.0))[0]
    half = PANEL_SIDE // 2
    for row, column, color in [(0, 0, low), (0, 1, middle), (1, 0, high), (1, 1, high)]:
        cell = panel[row * half : (row + 1) * half, column * half : (column + 1) * half]
        assert (cell == color).all()
    assert low.sum() < middle.sum() < high.sum()


def test_padding_is_cut_off_or_blank() -> None:
    # 60 x 44 px in a frame of 60: of 4 columns of 15 px the third is centred at 37.5 (in), the fourth at 52.5 (out).
    np.testing.assert_array_equal(stage_pictures.valid_tokens(4, (320, 235))[0], [True, True, True, False])
    frame = panel_frame((64, 50), IDENTITY)
    panel = stage_pictures.draw_similarity(np.zeros(16, np.float32), np.zeros((64, 50), np.uint8), frame, (0.0, 1.0))
    assert panel.shape == (PANEL_SIDE, 250, 3)
    assert (panel[:, 241:] == stage_pictures.BLANK).all()
    assert not has_color(panel[:, :239], stage_pictures.BLANK).any()


def test_prompts_differ_in_color_and_shape() -> None:
    base = np.full((PANEL_SIDE, PANEL_SIDE, 3), 128, dtype=np.uint8)
    panel = stage_pictures.draw_prompts(base, [0], [63], 64)  # 8 x 8 tokens of 40 px: first and last
    first, last = panel[:40, :40], panel[-40:, -40:]
    assert has_color(first, stage_pictures.OCCLUSION)[20, 20], "a disc is filled"
    assert not has_color(last, stage_pictures.FACE)[20, 20], "a square is open"
    assert has_color(last, stage_pictures.FACE).sum() > 30
    assert not has_color(first, stage_pictures.FACE).any()
    assert not has_color(last, stage_pictures.OCCLUSION).any()


def test_a_mask_is_tinted_inside_and_only_outlined_outside() -> None:
    base = np.full((PANEL_SIDE, PANEL_SIDE, 3), 128, dtype=np.uint8)
    mask, inside = np.zeros((2, PANEL_SIDE, PANEL_SIDE), dtype=bool)
    mask[100:200, 100:300] = True
    inside[:, :200] = True
    panel = stage_pictures.draw_mask(base, mask, inside, stage_pictures.OCCLUSION)
    untouched = panel[10, 10]
    np.testing.assert_array_equal(panel[150, 250], untouched)
    assert abs(panel[150, 150].astype(int) - untouched).max() > 20
    assert has_color(panel, stage_pictures.OCCLUSION)[98:103, 250].any()
    np.testing.assert_array_equal(base, 128)


def test_an_odd_number_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="square grid, got 10"):
        stage_pictures.grid_side(10)
