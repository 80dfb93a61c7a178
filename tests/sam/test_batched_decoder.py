"""The reference everywhere is the stock `segment_anything` code, run on one prompt set at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor

from s3pot.sam.batched_decoder import attend, decode_first_mask, output_tokens, two_way_transformer
from s3pot.sam.sizes import build_sam

SET_SIZES = (1, 7, 300)


@dataclass(frozen=True)
class Padded:
    """Prompt sets of different sizes in one batch: prompts, then padding, then the not-a-point token."""

    tokens: Tensor
    valid: Tensor


def random_sets(encoder: PromptEncoder, sizes: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Embed random clicks with the stock prompt encoder; each (1, n + 1, C), the not-a-point token last."""
    generator = torch.Generator().manual_seed(seed)
    side = encoder.input_image_size[0]
    sets = []
    for size in sizes:
        points = torch.rand(1, size, 2, generator=generator) * side
        labels = torch.randint(0, 2, (1, size), generator=generator)
        with torch.no_grad():
            sets.append(encoder(points=(points, labels), boxes=None, masks=None)[0])
    return sets


def padded(sets: Sequence[Tensor], filling: float = 0.0, longest: int | None = None) -> Padded:
    """Pad between the prompts and the not-a-point token, with noise of the size `filling`."""
    longest = longest or max(tokens.shape[1] for tokens in sets)
    generator = torch.Generator().manual_seed(99)
    rows, valid = [], torch.ones(len(sets), longest, dtype=torch.bool)
    for row, tokens in enumerate(sets):
        missing = longest - tokens.shape[1]
        noise = torch.randn(1, missing, tokens.shape[2], generator=generator).to(tokens) * filling
        rows.append(torch.cat([tokens[:, :-1], noise, tokens[:, -1:]], dim=1))
        valid[row, tokens.shape[1] - 1 : longest - 1] = False
    return Padded(torch.cat(rows), valid)


def stock_decode(
    decoder: MaskDecoder, image_tokens: Tensor, position: Tensor, sets: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Decode set by set; the dense prompt embedding is already in the image tokens, so zero is added here."""
    results = [
        decoder(
            image_embeddings=image_tokens[row : row + 1],
            image_pe=position,
            sparse_prompt_embeddings=tokens,
            dense_prompt_embeddings=torch.zeros_like(image_tokens[row : row + 1]),
            multimask_output=False,
        )
        for row, tokens in enumerate(sets)
    ]
    return torch.cat([masks[:, 0] for masks, _ in results]), torch.cat([iou[:, 0] for _, iou in results])


def image_tokens_of(encoder: PromptEncoder, batch: int) -> Tensor:
    rows, cols = encoder.image_embedding_size
    return torch.randn(batch, encoder.embed_dim, rows, cols, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def nano() -> tuple[MaskDecoder, PromptEncoder]:
    """The nano decoder in double precision, so that equality can be asked for to many digits."""
    sam = build_sam("nano", seed=1)
    return sam.mask_decoder.double(), sam.prompt_encoder


@pytest.fixture(scope="module")
def stock_256() -> tuple[MaskDecoder, PromptEncoder]:
    """Decoder and prompt encoder of vit_b, l and h, without an image encoder; random weights."""
    torch.manual_seed(2)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
    encoder = PromptEncoder(
        embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
    )
    return decoder.eval(), encoder.eval()


def test_forward_equals_stock_for_sets_of_1_7_and_300(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = nano
    tokens = image_tokens_of(encoder, 3).double()
    position = encoder.get_dense_pe().double()
    sets = [points.double() for points in random_sets(encoder, SET_SIZES)]
    batch = padded(sets)
    with torch.no_grad():
        masks, iou = decode_first_mask(decoder, tokens, position, batch.tokens, batch.valid)
        stock_masks, stock_iou = stock_decode(decoder, tokens, position, sets)
    assert masks.shape == (3, 128, 128)
    torch.testing.assert_close(masks, stock_masks, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(iou, stock_iou, rtol=1e-9, atol=1e-9)
    assert stock_masks.std(dim=(1, 2)).min() > 1e-3, "constant masks would be equal whatever the code does"


def test_gradients_equal_stock_for_sets_of_1_7_and_300(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = nano
    position = encoder.get_dense_pe().double()
    tokens = image_tokens_of(encoder, 3).double().requires_grad_()
    sets = [points.double().requires_grad_() for points in random_sets(encoder, SET_SIZES)]
    generator = torch.Generator().manual_seed(3)
    mask_pull = torch.randn(3, 128, 128, generator=generator, dtype=torch.float64)
    iou_pull = torch.randn(3, generator=generator, dtype=torch.float64)
    weights = dict(decoder.named_parameters())
    leaves = [tokens, *sets, *weights.values()]
    batch = padded(sets, filling=1.0)

    def gradients(masks: Tensor, iou: Tensor) -> tuple[Tensor, ...]:
        loss = (masks * mask_pull).sum() + (iou * iou_pull).sum()
        return torch.autograd.grad(loss, leaves, materialize_grads=True)

    ours = gradients(*decode_first_mask(decoder, tokens, position, batch.tokens, batch.valid))
    stock = gradients(*stock_decode(decoder, tokens, position, sets))
    names = ["image tokens", "prompts 1", "prompts 7", "prompts 300", *weights]
    for name, our, theirs in zip(names, ours, stock, strict=True):
        # Key biases shift every score alike, so their true gradient is 0 and only the absolute tolerance counts.
        torch.testing.assert_close(our, theirs, rtol=1e-6, atol=1e-9, msg=name)
        assert theirs.any() or name.endswith("k_proj.bias"), f"{name} has no gradient: the test shows nothing"


def test_padding_gets_no_gradient(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = nano
    batch = padded([points.double() for points in random_sets(encoder, (1, 7))], filling=1.0)
    prompt_tokens = batch.tokens.clone().requires_grad_()
    masks, iou = decode_first_mask(
        decoder, image_tokens_of(encoder, 2).double(), encoder.get_dense_pe().double(), prompt_tokens, batch.valid
    )
    (masks.square().sum() + iou.sum()).backward()
    assert not prompt_tokens.grad[~batch.valid].any()
    assert prompt_tokens.grad[batch.valid].any(dim=-1).all()


@pytest.mark.parametrize("filling", [1.0, 1e4])
def test_what_lies_in_padding_changes_nothing(nano: tuple[MaskDecoder, PromptEncoder], filling: float) -> None:
    decoder, encoder = nano
    tokens = image_tokens_of(encoder, 2).double()
    position = encoder.get_dense_pe().double()
    sets = [points.double() for points in random_sets(encoder, (2, 9))]
    clean, noisy = padded(sets), padded(sets, filling)
    assert not torch.equal(clean.tokens, noisy.tokens)
    with torch.no_grad():
        expected = decode_first_mask(decoder, tokens, position, clean.tokens, clean.valid)
        found = decode_first_mask(decoder, tokens, position, noisy.tokens, noisy.valid)
        unmasked = decode_first_mask(decoder, tokens, position, noisy.tokens, torch.ones_like(noisy.valid))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (unmasked[0][0] - expected[0][0]).abs().max() > 1e-4, "the padding would matter if it were not masked"


def test_more_padding_changes_nothing(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = nano
    tokens, position = image_tokens_of(encoder, 1).double(), encoder.get_dense_pe().double()
    [points] = random_sets(encoder, (4,))
    short, long = padded([points.double()]), padded([points.double()], filling=1.0, longest=40)
    with torch.no_grad():
        expected = decode_first_mask(decoder, tokens, position, short.tokens, short.valid)
        found = decode_first_mask(decoder, tokens, position, long.tokens, long.valid)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_sets_without_a_prompt_decode_the_not_a_point_token(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = nano
    tokens, position = image_tokens_of(encoder, 2).double(), encoder.get_dense_pe().double()
    for sizes in ((0, 0), (0, 5)):  # a whole batch without prompts; one empty set beside another
        sets = [points.double() for points in random_sets(encoder, sizes)]
        batch = padded(sets, filling=1.0)
        with torch.no_grad():
            found = decode_first_mask(decoder, tokens, position, batch.tokens, batch.valid)
            expected = stock_decode(decoder, tokens, position, sets)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_order_of_prompts_does_not_matter(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = nano
    tokens, position = image_tokens_of(encoder, 1).double(), encoder.get_dense_pe().double()
    [points] = random_sets(encoder, (9,))
    shuffled = points[:, torch.randperm(10, generator=torch.Generator().manual_seed(0))]
    valid = torch.ones(1, 10, dtype=torch.bool)
    with torch.no_grad():
        expected = decode_first_mask(decoder, tokens, position, points.double(), valid)
        found = decode_first_mask(decoder, tokens, position, shuffled.double(), valid)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_forward_equals_stock_at_the_official_size(stock_256: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, encoder = stock_256
    tokens, position = image_tokens_of(encoder, 3), encoder.get_dense_pe()
    sets = random_sets(encoder, SET_SIZES)
    batch = padded(sets, filling=1.0)
    with torch.no_grad():
        masks, iou = decode_first_mask(decoder, tokens, position, batch.tokens, batch.valid)
        stock_masks, stock_iou = stock_decode(decoder, tokens, position, sets)
    assert masks.shape == (3, 256, 256)
    assert stock_masks.std() > 1e-3
    torch.testing.assert_close(masks, stock_masks, rtol=1e-4, atol=1e-4 * float(stock_masks.std()))
    torch.testing.assert_close(iou, stock_iou, rtol=1e-4, atol=1e-5)


def test_own_tokens_are_the_iou_token_then_the_mask_tokens(stock_256: tuple[MaskDecoder, PromptEncoder]) -> None:
    decoder, _ = stock_256
    tokens = output_tokens(decoder, 2)
    assert tokens.shape == (2, 5, 256)
    assert torch.equal(tokens[1, :1], decoder.iou_token.weight)
    assert torch.equal(tokens[1, 1:], decoder.mask_tokens.weight)


def test_two_way_transformer_equals_stock(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    transformer = nano[0].transformer
    generator = torch.Generator().manual_seed(0)
    image_tokens, position, prompts = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 128, 4, 6), (2, 128, 4, 6), (2, 5, 128))
    )
    with torch.no_grad():
        expected = transformer(image_tokens, position, prompts)
        found = two_way_transformer(
            transformer, image_tokens.flatten(2).mT, position.flatten(2).mT, prompts, prompt_valid=None
        )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_attention_with_masked_keys_is_attention_without_those_keys(nano: tuple[MaskDecoder, PromptEncoder]) -> None:
    attention = nano[0].transformer.layers[1].cross_attn_image_to_token  # works at half width
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(2, count, 128, generator=generator, dtype=torch.float64) for count in (6, 5, 5)
    )
    valid = torch.tensor([[True, False, True, True, False], [True] * 5])
    with torch.no_grad():
        found = attend(attention, queries, keys, values, valid)
        for row in range(2):
            kept = valid[row]
            expected = attention(queries[row : row + 1], keys[row : row + 1, kept], values[row : row + 1, kept])
            torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-10, atol=1e-12)
