"""SAM's mask decoder for B images with one prompt set each, of different sizes [design 5.8].

The stock modules cannot do it: their attention has no mask, the padding label -1 adds a learned token, and the decoder
repeats one image over many prompt sets. Here the same weights run in a functional forward in which padded prompts are
masked wherever prompts are keys: in the prompts' self-attention and in image-to-token attention. Padded rows still
compute something; nobody reads it. Equal to the stock decoder for every set, forward and gradient (tested).

    tokens (B, T, C) = iou token, mask tokens, prompts (padded), not-a-point      keys (B, h*w, C) = image tokens
"""

import torch
from jaxtyping import Bool, Float
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor
from torch.nn import functional


def attend(
    attention: Attention,
    queries: Float[Tensor, "b q c"],
    keys: Float[Tensor, "b k c"],
    values: Float[Tensor, "b k c"],
    key_valid: Bool[Tensor, "b k"] | None = None,
) -> Float[Tensor, "b q c"]:
    """Run a stock `Attention` module, with masked keys and PyTorch's fused kernel.

    Args:
        attention: a `segment_anything` attention layer (q_proj, k_proj, v_proj, out_proj, num_heads).
        queries: (B, q, C).
        keys: (B, k, C).
        values: (B, k, C).
        key_valid: (B, k) True where a key takes part; None means all do.
    """
    heads: int = attention.num_heads

    def split(features: Tensor) -> Tensor:
        return features.unflatten(-1, (heads, -1)).transpose(1, 2)

    mixed = functional.scaled_dot_product_attention(
        split(attention.q_proj(queries)),
        split(attention.k_proj(keys)),
        split(attention.v_proj(values)),
        attn_mask=None if key_valid is None else key_valid[:, None, None, :],
    )
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def two_way_transformer(
    transformer: TwoWayTransformer,
    image_tokens: Float[Tensor, "b n c"],
    image_position: Float[Tensor, "b_or_1 n c"],
    prompt_tokens: Float[Tensor, "b t c"],
    prompt_valid: Bool[Tensor, "b t"] | None,
) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b n c"]]:
    """Run the stock two-way transformer's weights over a padded batch of prompt sets.

    Returns:
        Updated prompt tokens (B, t, C) and updated image tokens (B, n, C).
    """
    queries, keys = prompt_tokens, image_tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = attend(layer.self_attn, queries, queries, queries, prompt_valid)
        else:
            placed = queries + prompt_tokens
            queries = queries + attend(layer.self_attn, placed, placed, queries, prompt_valid)
        queries = layer.norm1(queries)
        placed = queries + prompt_tokens
        queries = layer.norm2(queries + attend(layer.cross_attn_token_to_image, placed, keys + image_position, keys))
        queries = layer.norm3(queries + layer.mlp(queries))
        placed = queries + prompt_tokens
        update = attend(layer.cross_attn_image_to_token, keys + image_position, placed, queries, prompt_valid)
        keys = layer.norm4(keys + update)
    update = attend(transformer.final_attn_token_to_image, queries + prompt_tokens, keys + image_position, keys)
    return transformer.norm_final_attn(queries + update), keys


def output_tokens(decoder: MaskDecoder, batch: int) -> Float[Tensor, "b t c"]:
    """Return the decoder's own query tokens: IoU token, then mask tokens."""
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight], dim=0)
    return tokens.unsqueeze(0).expand(batch, -1, -1)


def decode_first_mask(
    decoder: MaskDecoder,
    image_tokens: Float[Tensor, "b c h w"],
    image_position: Float[Tensor, "1 c h w"],
    prompt_tokens: Float[Tensor, "b t c"],
    prompt_valid: Bool[Tensor, "b t"],
) -> tuple[Float[Tensor, "b hm wm"], Float[Tensor, " b"]]:
    """Decode mask token 0 (`multimask_output=False`) for one prompt set per image.

    Args:
        decoder: stock mask decoder.
        image_tokens: (B, C, h, w) with the dense prompt embedding already added.
        image_position: (1, C, h, w) dense positional encoding.
        prompt_tokens: (B, t, C) prompt embeddings, padded, including the not-a-point token.
        prompt_valid: (B, t) False for padding.

    Returns:
        Mask logits (B, 4h, 4w) and predicted IoU (B,).
    """
    batch, channels, rows, cols = image_tokens.shape
    own = output_tokens(decoder, batch)
    own_valid = prompt_valid.new_ones(batch, own.shape[1])
    tokens, keys = two_way_transformer(
        decoder.transformer,
        image_tokens.flatten(2).transpose(1, 2),
        image_position.flatten(2).transpose(1, 2),
        torch.cat([own, prompt_tokens], dim=1),
        torch.cat([own_valid, prompt_valid], dim=1),
    )
    large = decoder.output_upscaling(keys.transpose(1, 2).reshape(batch, channels, rows, cols))
    weights = decoder.output_hypernetworks_mlps[0](tokens[:, 1])
    mask_logits = torch.einsum("bc,bchw->bhw", weights, large)
    return mask_logits, decoder.iou_prediction_head(tokens[:, 0])[:, 0]
