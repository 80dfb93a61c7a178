"""SAM's decoder with points, a box, a mask and the guidance of PerSAM, one picture at a time.

PerSAM (R. Zhang et al., "Personalize Segment Anything Model with One Shot", ICLR 2024) guides the decoder in two ways,
here as its code does (github.com/ZrrSkywalker/Personalize-SAM, per_segment_anything/modeling/transformer.py): the mean
token of the target is added to the queries before every layer and before the last attention; and where queries look at
the image, a map of similarity is added to the attention, which is then normalised again. Without guidance this is the
stock decoder (tested).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from segment_anything.modeling import TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor

from s3pot.sam.batched_decoder import attend, output_tokens
from s3pot.sam.promptable import PromptableSam


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """What PerSAM tells the decoder.

    Attributes:
        target: (C,) mean token of the target.
        similarity: (t,) in [0, 1], likeness of every image token to the target.
    """

    target: Float[Tensor, " c"]
    similarity: Float[Tensor, " t"]


@torch.no_grad()
def decode_prompts(
    sam: PromptableSam,
    image_tokens: Float[Tensor, "c h w"],
    points_xy: Float[Tensor, "n 2"],
    polarity: Int64[Tensor, " n"],
    *,
    box: Float[Tensor, " 4"] | None = None,
    mask_logits: Float[Tensor, "hm wm"] | None = None,
    guidance: Guidance | None = None,
) -> tuple[Float[Tensor, "m hm wm"], Float[Tensor, " m"]]:
    """Decode every mask token of SAM for one set of prompts.

    Args:
        sam: the SAM.
        image_tokens: of one picture.
        points_xy: (x, y) in pixels of the model frame, without the half pixel that SAM adds.
        polarity: 1 = the thing to segment, 0 = not it.
        box: (left, top, right, bottom) in pixels of the model frame.
        mask_logits: a mask to start from, on the decoder's grid.
        guidance: of PerSAM.

    Returns:
        Logits of all mask tokens (token 0 is that of `multimask_output=False`), and SAM's estimate of their IoU.
    """
    encoder, decoder = sam.sam.prompt_encoder, sam.sam.mask_decoder
    sparse, dense = encoder(
        points=(points_xy[None], polarity[None]),
        boxes=None if box is None else box[None],
        masks=None if mask_logits is None else mask_logits[None, None],
    )
    own = output_tokens(decoder, 1)
    channels, rows, cols = image_tokens.shape
    queries, keys = guided_transformer(
        decoder.transformer,
        (image_tokens[None] + dense).flatten(2).transpose(1, 2),
        encoder.get_dense_pe().flatten(2).transpose(1, 2),
        torch.cat([own, sparse], dim=1),
        guidance,
    )
    large = decoder.output_upscaling(keys.transpose(1, 2).reshape(1, channels, rows, cols))[0]
    tokens = queries[0, 1 : own.shape[1]]
    weights = torch.stack(
        [network(token) for network, token in zip(decoder.output_hypernetworks_mlps, tokens, strict=True)]
    )
    return torch.einsum("mc,chw->mhw", weights, large), decoder.iou_prediction_head(queries[0, 0])


def guided_transformer(
    transformer: TwoWayTransformer,
    keys: Float[Tensor, "1 t c"],
    key_position: Float[Tensor, "1 t c"],
    prompts: Float[Tensor, "1 n c"],
    guidance: Guidance | None,
) -> tuple[Float[Tensor, "1 n c"], Float[Tensor, "1 t c"]]:
    """Run the stock two-way transformer's weights, with guidance or without; returns queries and keys."""
    target = 0.0 if guidance is None else guidance.target
    similarity = None if guidance is None else guidance.similarity
    queries = prompts
    for layer in transformer.layers:
        queries = queries + target
        if layer.skip_first_layer_pe:
            queries = attend(layer.self_attn, queries, queries, queries)
        else:
            placed = queries + prompts
            queries = queries + attend(layer.self_attn, placed, placed, queries)
        queries = layer.norm1(queries)
        seen = _look(layer.cross_attn_token_to_image, queries + prompts, keys + key_position, keys, similarity)
        queries = layer.norm2(queries + seen)
        queries = layer.norm3(queries + layer.mlp(queries))
        placed = queries + prompts
        keys = layer.norm4(keys + attend(layer.cross_attn_image_to_token, keys + key_position, placed, queries))
    seen = attend(transformer.final_attn_token_to_image, queries + prompts + target, keys + key_position, keys)
    return transformer.norm_final_attn(queries + seen), keys


def _look(
    attention: Attention, queries: Tensor, keys: Tensor, values: Tensor, similarity: Float[Tensor, " t"] | None
) -> Tensor:
    """Attend; with similarity added to the attention, and softmax once more, as PerSAM has it."""
    if similarity is None:
        return attend(attention, queries, keys, values)
    heads: int = attention.num_heads
    query, key, value = (
        project(features).unflatten(-1, (heads, -1)).transpose(1, 2)
        for project, features in (
            (attention.q_proj, queries),
            (attention.k_proj, keys),
            (attention.v_proj, values),
        )
    )
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)
    mixed = (weights + similarity).softmax(dim=-1) @ value
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))
