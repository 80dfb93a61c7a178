import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide

from s3pot.sam.preprocess import mask_to_picture, model_size, preprocess, token_centers_xy, valid_tokens
from s3pot.sam.sizes import build_sam


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_sam("nano")


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 200, (128, 256)),
        (200, 100, (256, 128)),
        (256, 256, (256, 256)),
        (512, 512, (256, 256)),
        (3, 4, (192, 256)),
    ],
)
def test_model_size_keeps_the_shape_and_fills_the_long_side(height: int, width: int, expected: tuple[int, int]) -> None:
    assert model_size(height, width, 256) == expected


def test_token_centers_by_hand() -> None:
    # 4 columns of 8 px: centres at 3.5, 11.5, 19.5, 27.5. Id 6 = row 1, column 2.
    ids = torch.tensor([[0, 3, 6]])
    expected = torch.tensor([[[3.5, 3.5], [27.5, 3.5], [19.5, 11.5]]])
    assert torch.equal(token_centers_xy(ids, 4, 8), expected)


def test_token_centers_of_stock_sam_lie_in_the_middle_of_its_tokens(sam: Sam) -> None:
    # The dense encoding of a token and the encoding of a click at its centre are the same thing.
    ids = torch.tensor([[0, 31, 32, 1023]])
    points = token_centers_xy(ids, 32, 8)
    clicks = sam.prompt_encoder.pe_layer.forward_with_coords(points + 0.5, sam.prompt_encoder.input_image_size)
    dense = sam.prompt_encoder.get_dense_pe()[0].flatten(1).T
    torch.testing.assert_close(clicks[0], dense[ids[0]], rtol=0, atol=1e-4)


def test_a_picture_at_model_size_is_only_normalised(sam: Sam, rng: np.random.Generator) -> None:
    image = picture(rng, 256, 256)
    [pixels] = preprocess(sam, [image])
    raw = torch.from_numpy(image).permute(2, 0, 1) - 0.0
    torch.testing.assert_close(pixels, (raw - sam.pixel_mean) / sam.pixel_std, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(100, 200), (120, 60), (300, 256), (256, 100)])
def test_preprocess_equals_stock_and_pads_with_zeros(
    sam: Sam, rng: np.random.Generator, height: int, width: int
) -> None:
    image = picture(rng, height, width)
    [pixels] = preprocess(sam, [image])
    resized = ResizeLongestSide(256).apply_image(image)
    stock = sam.preprocess(torch.from_numpy(resized).permute(2, 0, 1).float())
    assert torch.equal(pixels, stock)
    rows, cols = model_size(height, width, 256)
    assert not pixels[:, rows:].any()
    assert not pixels[:, :, cols:].any()
    assert pixels[:, rows - 1, cols - 1].any()


def test_pictures_of_different_sizes_make_one_batch(sam: Sam, rng: np.random.Generator) -> None:
    images = [picture(rng, 40, 80), picture(rng, 80, 40), picture(rng, 256, 256)]
    together = preprocess(sam, images)
    assert together.shape == (3, 3, 256, 256)
    for row, image in enumerate(images):
        assert torch.equal(together[row], preprocess(sam, [image])[0])


def test_a_view_with_negative_strides_is_taken(sam: Sam, rng: np.random.Generator) -> None:
    image = picture(rng, 256, 256)
    assert torch.equal(preprocess(sam, [image[:, ::-1]]), preprocess(sam, [image[:, ::-1].copy()]))


def test_no_pictures_is_an_error(sam: Sam) -> None:
    with pytest.raises(ValueError, match="no images"):
        preprocess(sam, [])


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
    ids=["grey", "alpha", "float"],
)
def test_anything_but_rgb_bytes_is_an_error(sam: Sam, image: np.ndarray) -> None:
    # Without the shape checks of the tests, as a user runs it: the function itself must say what came.
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
        preprocess.__wrapped__(sam, [image])


def test_valid_tokens_are_those_whose_centre_lies_in_the_picture() -> None:
    # 32 px frame, 4 x 4 tokens of 8 px, centres at 4, 12, 20, 28. A 12 x 24 picture becomes 16 x 32: two rows.
    # 24 x 30 -> 26 x 32 (25.6 rounded): the fourth row's centre, 28, lies in the padding.
    valid = valid_tokens([(12, 24), (24, 30), (32, 32), (32, 10)], 32, 8).reshape(4, 4, 4)
    assert valid.dtype == torch.bool
    assert valid[0].tolist() == [[True] * 4] * 2 + [[False] * 4] * 2
    assert valid[1].tolist() == [[True] * 4] * 3 + [[False] * 4]
    assert valid[2].all()
    assert valid[3].tolist() == [[True, False, False, False]] * 4  # 10 px wide: the second centre, 12, is outside


def test_a_centre_exactly_on_the_picture_edge_is_padding() -> None:
    # The picture covers [0, 12); the second token's centre is 12.0.
    assert valid_tokens([(12, 32)], 32, 8).reshape(4, 4)[:, 0].tolist() == [True, False, False, False]


@pytest.mark.parametrize("size", [(100, 200), (200, 100), (256, 256), (61, 47)])
def test_mask_to_picture_equals_stock(sam: Sam, size: tuple[int, int]) -> None:
    logits = torch.randn(2, 128, 128, generator=torch.Generator().manual_seed(0))
    stock = sam.postprocess_masks(logits[:, None], model_size(*size, 256), size)[:, 0]
    assert stock.shape == (2, *size)
    assert torch.equal(mask_to_picture(logits, size, 256), stock)
