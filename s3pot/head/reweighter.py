"""The prompt reweighter, the only trained part: self-attention among the point prompts of an image [S3POT §3.3].

`residual` (default) adds pre-norm self-attention to the prompts. Its output projection starts at zero, so an untrained
reweighter returns its input exactly and the mask is the one without it. `released` is the form of the released code:
LayerNorm(prompts + self-attention), 4 heads, 263,680 parameters at width 256.

It sees point prompts only; the decoder appends SAM's not-a-point token afterwards.

Legend: B images, N prompts with padding at the end, C channels.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

ReweighterVariant = Literal["residual", "released"]


@dataclass(frozen=True, kw_only=True)
class ReweighterConfig:
    """Size and form of the reweighter.

    Attributes:
        embed_dim: Width C of a prompt embedding; 256 for SAM vit_b, vit_l and vit_h.
        variant: `residual`, the identity before training, or `released`, post-norm; the paper does not say.
        num_heads: Attention heads, a divisor of `embed_dim`; the released code has 4.
        num_layers: Attention layers, at least 1; the paper has 1.
    """

    embed_dim: int = 256
    variant: ReweighterVariant = "residual"
    num_heads: int = 4
    num_layers: int = 1

    def __post_init__(self) -> None:
        """Check ranges and that heads divide the width."""
        if self.variant not in ("residual", "released"):
            raise ValueError(f"variant must be residual or released, got {self.variant!r}")
        if self.embed_dim < 1:
            raise ValueError(f"embed_dim must be at least 1, got {self.embed_dim}")
        if self.num_heads < 1 or self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads must divide embed_dim {self.embed_dim}, got {self.num_heads}")
        if self.num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {self.num_layers}")


class PromptReweighter(nn.Module):
    """Reweights the prompt embeddings of an image by self-attention: P -> P'.

    Attributes:
        config: Size and form.
        layers: Its attention layers.
    """

    def __init__(self, config: ReweighterConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(_AttentionLayer(config) for _ in range(config.num_layers))

    def forward(
        self, prompt_embeddings: Float[Tensor, "b n c"], prompt_valid: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n c"]:
        """Reweight prompts; padding rows come back unchanged and influence no other row.

        Args:
            prompt_embeddings: Point prompts as SAM's prompt encoder embeds them.
            prompt_valid: False for padding.
        """
        if not prompt_valid.shape[1]:
            # Attention needs a key, and DDP waits for the gradient of every parameter: run on one row of padding.
            padding = torch.nn.functional.pad
            return cast(Tensor, self(padding(prompt_embeddings, (0, 0, 0, 1)), padding(prompt_valid, (0, 1))))[:, :0]
        # A key that attention ignores still poisons it when it is NaN: 0 * NaN.
        reweighted = prompt_embeddings.masked_fill(~prompt_valid[:, :, None], 0)
        # An image without prompts would leave the softmax nothing to sum over; its rows are padding, let them see all.
        ignored = ~prompt_valid & prompt_valid.any(dim=1, keepdim=True)
        for layer in self.layers:
            reweighted = layer(reweighted, ignored)
        return torch.where(prompt_valid[:, :, None], reweighted, prompt_embeddings)


class _AttentionLayer(nn.Module):
    def __init__(self, config: ReweighterConfig) -> None:
        super().__init__()
        self.pre_norm = config.variant == "residual"
        self.attention = nn.MultiheadAttention(config.embed_dim, config.num_heads, batch_first=True)
        self.norm = nn.LayerNorm(config.embed_dim)
        if self.pre_norm:
            nn.init.zeros_(self.attention.out_proj.weight)
            nn.init.zeros_(self.attention.out_proj.bias)

    def forward(self, prompts: Float[Tensor, "b n c"], ignored: Bool[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
        source = self.norm(prompts) if self.pre_norm else prompts
        attended, _ = self.attention(source, source, source, key_padding_mask=ignored, need_weights=False)
        moved: Tensor = prompts + attended
        return moved if self.pre_norm else self.norm(moved)
