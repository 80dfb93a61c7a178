"""Against the stock decoder, and against the stock decoder with PerSAM's changes patched in."""

import math

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from torch import Tensor

from s3pot.baselines.guided_decoding import Guidance, decode_prompts
from s3pot.sam.promptable import PromptableSam
from tests.stand_ins import random_record, tiny_stock_sam


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    """A tiny SAM with the four mask tokens of the official ones."""
    stock = tiny_stock_sam()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        stock.mask_decoder = MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=2),
            transformer_dim=32,
            iou_head_depth=2,
            iou_head_hidden_dim=32,
        )
    return PromptableSam(stock.eval().requires_grad_(False))


TOKENS = random_record("a", 1, 1).image_tokens.float()
POINTS, POLARITY = torch.tensor([[10.0, 20.0], [40.5, 3.5]]), torch.tensor([1, 0])


def stock_masks(sam: PromptableSam, box: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    encoder = sam.sam.prompt_encoder
    sparse, dense = encoder(
        points=(POINTS[None], POLARITY[None]),
        boxes=None if box is None else box[None],
        masks=None if mask is None else mask[None, None],
    )
    masks, estimates = sam.sam.mask_decoder.predict_masks(
        image_embeddings=TOKENS[None],
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    return masks[0], estimates[0]


@pytest.mark.parametrize("box", [None, torch.tensor([5.0, 6.0, 50.0, 60.0])])
@pytest.mark.parametrize("mask", [None, torch.linspace(-3, 3, 32 * 32).reshape(32, 32)])
def test_without_guidance_it_is_the_stock_decoder(sam: PromptableSam, box: Tensor | None, mask: Tensor | None) -> None:
    found = decode_prompts(sam, TOKENS, POINTS, POLARITY, box=box, mask_logits=mask)
    for ours, stock in zip(found, stock_masks(sam, box, mask), strict=True):
        torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-4)


def test_guidance_is_that_of_persam(sam: PromptableSam, monkeypatch: pytest.MonkeyPatch) -> None:
    guidance = Guidance(
        target=torch.linspace(-1, 1, 32), similarity=torch.rand(64, generator=torch.manual_seed(3)) * 40
    )
    transformer = sam.sam.mask_decoder.transformer

    def twice_normalised(self: object, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            self._separate_heads(p(x), self.num_heads)
            for p, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )  # type: ignore[attr-defined]
        once = torch.softmax(q @ k.permute(0, 1, 3, 2) / math.sqrt(q.shape[-1]), dim=-1)
        twice = torch.softmax(once + guidance.similarity, dim=-1)
        return self.out_proj(self._recombine_heads(twice @ v))  # type: ignore[attr-defined]

    for layer in transformer.layers:
        attention, stock_layer = layer.cross_attn_token_to_image, layer.forward
        monkeypatch.setattr(attention, "forward", twice_normalised.__get__(attention))
        monkeypatch.setattr(
            layer,
            "forward",
            lambda queries, stock_layer=stock_layer, **rest: stock_layer(queries=queries + guidance.target, **rest),
        )
    last = transformer.final_attn_token_to_image.forward
    monkeypatch.setattr(
        transformer.final_attn_token_to_image, "forward", lambda q, k, v: last(q=q + guidance.target, k=k, v=v)
    )
    expected, _ = stock_masks(sam, None, None)
    monkeypatch.undo()
    found, _ = decode_prompts(sam, TOKENS, POINTS, POLARITY, guidance=guidance)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, decode_prompts(sam, TOKENS, POINTS, POLARITY)[0], atol=1e-2)
