import numpy as np
import pytest
import torch
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from s3pot.sam.preprocess import token_centers_xy
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam


@pytest.fixture(scope="module")
def nano() -> PromptableSam:
    return PromptableSam(build_sam("nano", seed=1)).requires_grad_(False)


def random_tokens(batch: int, grid: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(batch, 128, *grid, generator=torch.Generator().manual_seed(0))


def random_prompts(batch: int, number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 1024, (batch, number), generator=generator)
    return ids, torch.randint(0, 2, (batch, number), generator=generator)


def stock_sparse(nano: PromptableSam, ids: Tensor, polarity: Tensor) -> Tensor:
    """The stock prompt encoder's tokens for clicks at token centres, the not-a-point token at the end."""
    return nano.sam.prompt_encoder._embed_points(token_centers_xy(ids, 32, 8), polarity, pad=True)


def stock_enhanced(nano: PromptableSam, tokens: Tensor, initial_prompt: Tensor, own: bool) -> Tensor:
    """The stock transformer on one picture, as the stock mask decoder calls it."""
    decoder, encoder = nano.sam.mask_decoder, nano.sam.prompt_encoder
    point = stock_sparse(nano, initial_prompt[:, None], torch.ones_like(initial_prompt)[:, None])
    own_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None]
    queries = torch.cat([own_tokens, point], dim=1) if own else point
    _, dense = encoder(points=None, boxes=None, masks=None)
    _, keys = decoder.transformer(tokens + dense, encoder.get_dense_pe(), queries)
    return keys.transpose(1, 2).reshape(tokens.shape)


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def test_attributes_of_the_nano_size(nano: PromptableSam) -> None:
    assert nano.token_grid == (32, 32)
    assert (nano.embed_dim, nano.patch, nano.image_size) == (128, 8, 256)
    assert nano.device == torch.device("cpu")


def test_prompts_equal_the_stock_prompt_encoder_at_token_centres(nano: PromptableSam) -> None:
    ids, polarity = random_prompts(2, 12)
    stock = stock_sparse(nano, ids, polarity)
    assert stock.shape == (2, 13, 128)
    torch.testing.assert_close(nano.embed_prompts(ids, polarity), stock[:, :12], rtol=0, atol=1e-6)
    not_a_point = nano.sam.prompt_encoder.not_a_point_embed.weight
    torch.testing.assert_close(stock[:, 12:], not_a_point.expand(2, 1, -1), rtol=0, atol=0)
    assert polarity.unique().numel() == 2, "both polarities must occur"


def test_points_equal_the_stock_prompt_encoder_anywhere(nano: PromptableSam) -> None:
    points = torch.tensor([[[0.0, 0.0], [255.0, 13.25], [100.5, 200.0]]])
    polarity = torch.tensor([[1, 0, 1]])
    stock = nano.sam.prompt_encoder._embed_points(points, polarity, pad=False)
    torch.testing.assert_close(nano.embed_points(points, polarity), stock, rtol=0, atol=1e-6)


def test_no_prompts_embed_to_nothing(nano: PromptableSam) -> None:
    assert nano.embed_prompts(*random_prompts(2, 0)).shape == (2, 0, 128)


def test_enhance_equals_the_stock_transformer(nano: PromptableSam) -> None:
    tokens, initial = random_tokens(1), torch.tensor([517])
    expected = stock_enhanced(nano, tokens, initial, own=True)
    torch.testing.assert_close(nano.enhance(tokens, initial), expected, rtol=1e-4, atol=1e-5)


def test_point_only_leaves_the_own_tokens_out(nano: PromptableSam) -> None:
    tokens, initial = random_tokens(1), torch.tensor([517])
    found = PromptableSam(nano.sam, enhance_point_only=True).enhance(tokens, initial)
    torch.testing.assert_close(found, stock_enhanced(nano, tokens, initial, own=False), rtol=1e-4, atol=1e-5)
    assert (found - nano.enhance(tokens, initial)).abs().max() > 1e-2


def test_the_initial_prompt_matters(nano: PromptableSam) -> None:
    tokens = random_tokens(1)
    one, other = (nano.enhance(tokens, torch.tensor([place])) for place in (0, 1023))
    assert (one - other).abs().max() > 1e-2


def test_enhance_of_a_batch_equals_the_loop(nano: PromptableSam) -> None:
    tokens, initial = random_tokens(3), torch.tensor([0, 517, 1023])
    alone = [nano.enhance(tokens[row : row + 1], initial[row : row + 1]) for row in range(3)]
    torch.testing.assert_close(nano.enhance(tokens, initial), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_decode_equals_the_stock_chain(nano: PromptableSam, number: int) -> None:
    tokens, (ids, polarity) = random_tokens(1), random_prompts(1, number)
    sparse, dense = nano.sam.prompt_encoder((token_centers_xy(ids, 32, 8), polarity), None, None)
    position = nano.sam.prompt_encoder.get_dense_pe()
    masks, iou = nano.sam.mask_decoder(tokens, position, sparse, dense, multimask_output=False)
    valid = torch.ones(1, number, dtype=torch.bool)
    found, found_iou = nano.decode_with_iou(tokens, nano.embed_prompts(ids, polarity), valid)
    torch.testing.assert_close(found, masks[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found_iou, iou[:, 0], rtol=1e-4, atol=1e-5)
    assert torch.equal(found, nano.decode(tokens, nano.embed_prompts(ids, polarity), valid))


def test_decode_of_a_ragged_batch_equals_the_loop(nano: PromptableSam) -> None:
    tokens, (ids, polarity) = random_tokens(3), random_prompts(3, 8)
    counts = (8, 0, 3)
    valid = torch.arange(8)[None] < torch.tensor(counts)[:, None]
    embeddings = nano.embed_prompts(ids, polarity)
    together = nano.decode(tokens, embeddings, valid)
    assert together.shape == (3, 128, 128)
    for row, count in enumerate(counts):
        alone = nano.decode(
            tokens[row : row + 1], embeddings[row : row + 1, :count], torch.ones(1, count, dtype=torch.bool)
        )
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_smaller_token_grid_gets_its_own_positions(nano: PromptableSam) -> None:
    tokens = random_tokens(1, (16, 16))
    assert nano.enhance(tokens, torch.tensor([3])).shape == tokens.shape
    ids, polarity = random_prompts(1, 2)
    masks = nano.decode(tokens, nano.embed_prompts(ids, polarity), torch.ones(1, 2, dtype=torch.bool))
    sparse = stock_sparse(nano, ids, polarity)
    position = nano.sam.prompt_encoder.pe_layer((16, 16))[None]
    dense = nano.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(tokens)
    expected, _ = nano.sam.mask_decoder(tokens, position, sparse, dense, multimask_output=False)
    torch.testing.assert_close(masks, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_encode_of_a_wide_picture_is_resized_and_padded_as_stock_does(
    nano: PromptableSam, rng: np.random.Generator
) -> None:
    image = picture(rng, 100, 200)
    tokens, valid = nano.encode([image])
    resized = ResizeLongestSide(256).apply_image(image)
    assert resized.shape == (128, 256, 3)
    stock = nano.sam.preprocess(torch.from_numpy(resized).permute(2, 0, 1).float())
    torch.testing.assert_close(tokens, nano.sam.image_encoder(stock[None]), rtol=1e-5, atol=1e-5)
    assert valid.reshape(32, 32).tolist() == [[True] * 32] * 16 + [[False] * 32] * 16


def test_encode_leaves_a_picture_at_model_size_untouched(nano: PromptableSam, rng: np.random.Generator) -> None:
    image = picture(rng, 256, 256)
    tokens, valid = nano.encode([image])
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()
    normalised = (pixels - nano.sam.pixel_mean) / nano.sam.pixel_std
    torch.testing.assert_close(tokens, nano.sam.image_encoder(normalised[None]), rtol=1e-5, atol=1e-5)
    assert valid.shape == (1, 1024)
    assert valid.all()


def test_encode_of_a_batch_equals_the_loop(nano: PromptableSam, rng: np.random.Generator) -> None:
    images = [picture(rng, 64, 32), picture(rng, 32, 64)]
    tokens, valid = nano.encode(images)
    for row, image in enumerate(images):
        alone, alone_valid = nano.encode([image])
        torch.testing.assert_close(tokens[row : row + 1], alone, rtol=1e-3, atol=1e-3)
        assert torch.equal(valid[row : row + 1], alone_valid)
    assert not torch.equal(valid[0], valid[1])


def test_encode_keeps_no_graph(rng: np.random.Generator) -> None:
    trainable = PromptableSam(build_sam("nano"))
    assert not trainable.encode([picture(rng, 32, 32)])[0].requires_grad
