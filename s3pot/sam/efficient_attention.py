"""Attention of the stock image encoder without its explicit matrix; the same numbers within rounding.

Stock SAM adds to the logit of query (i, j) and key (k, l) two terms that depend on the query and on one coordinate of
the key each: h[k] and w[l]. They are dot products as well, of (h, w) with two one-hot vectors of k and l. Appended to
queries and keys they let `scaled_dot_product_attention` do all of it block by block; at 1024 px the stock block holds
several 4096 x 4096 matrices per head instead.
"""

import torch
from jaxtyping import Float
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Attention, ImageEncoderViT, get_rel_pos
from torch import Tensor, nn
from torch.nn import functional


class EfficientAttention(nn.Module):
    """Stands in for one stock `Attention` and shares its weights, under the same names; (B, H, W, C) -> the same shape.

    Args:
        stock: attention of a window or of the whole grid, with relative positions or without.
    """

    def __init__(self, stock: Attention) -> None:
        super().__init__()
        self.num_heads: int = stock.num_heads
        self.scale: float = stock.scale
        self.use_rel_pos: bool = stock.use_rel_pos
        if stock.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = stock.rel_pos_h, stock.rel_pos_w
        self.qkv, self.proj = stock.qkv, stock.proj

    def forward(self, tokens: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Mix the tokens of every grid of the batch."""
        batch, rows, cols, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, rows * cols, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, H * W, C / heads)
        head_width = value.shape[-1]
        terms = self._position_terms(query, rows, cols) if self.use_rel_pos else query[..., :0]
        query = torch.cat([query * self.scale, terms], dim=-1)
        if self.use_rel_pos:
            one_hot = _coordinates(rows, cols, key).expand(batch, self.num_heads, -1, -1)
            key = torch.cat([key, one_hot], dim=-1)
            # The kernels that keep no matrix want values as wide as keys; the zeros are cut off again.
            value = functional.pad(value, (0, key.shape[-1] - head_width))
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :head_width]
        return self.proj(mixed.transpose(1, 2).reshape(batch, rows, cols, width))

    def _position_terms(self, query: Tensor, rows: int, cols: int) -> Tensor:
        """What every query adds for every row and column of keys; (B, heads, H * W, H + W)."""
        on_grid = query.unflatten(2, (rows, cols))
        by_row = torch.einsum("bnhwc,hkc->bnhwk", on_grid, get_rel_pos(rows, rows, self.rel_pos_h))
        by_col = torch.einsum("bnhwc,wkc->bnhwk", on_grid, get_rel_pos(cols, cols, self.rel_pos_w))
        return torch.cat([by_row, by_col], dim=-1).flatten(2, 3)


def use_efficient_attention(sam: Sam) -> Sam:
    """Exchange the attention of every block of a stock image encoder, in place; the state dict keeps its names.

    Args:
        sam: a stock SAM (vit_b, vit_l, vit_h), before or after its weights are loaded.

    Returns:
        The same SAM.

    Raises:
        TypeError: if its image encoder is not the stock one (the nano SAM has no attention matrix to save).
    """
    encoder = sam.image_encoder
    if not isinstance(encoder, ImageEncoderViT):
        raise TypeError(f"only a stock ImageEncoderViT has attention to exchange, got {type(encoder).__name__}")
    for block in encoder.blocks:
        if isinstance(block.attn, Attention):
            block.attn = EfficientAttention(block.attn).train(block.attn.training)
    return sam


def _coordinates(rows: int, cols: int, like: Tensor) -> Tensor:
    """One-hot row and column of every place of a grid, row by row; (rows * cols, rows + cols)."""
    eyes = (torch.eye(size, dtype=like.dtype, device=like.device) for size in (rows, cols))
    by_row, by_col = eyes
    return torch.cat([by_row.repeat_interleave(cols, dim=0), by_col.repeat(rows, 1)], dim=1)
