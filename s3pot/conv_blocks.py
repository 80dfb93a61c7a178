"""The two convolutional building blocks that the embedded networks share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """Residual pair of 3x3 convolutions with group norm; (B, C, h, w) -> (B, C, h, w), C divisible by 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add the block's output to its input."""
        return functional.gelu(features + self.layers(features))


def conv_norm(width_in: int, width_out: int, *, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, group norm, GELU; stride 2 halves the resolution."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, width_out),
        nn.GELU(),
    )


class GridTransformer(nn.Module):
    """Pre-norm transformer layers over a feature map, so that every place sees the whole face.

    Args:
        width: channels, divisible by 8 heads.
        layers: number of transformer layers.
        grid: side of the learned position grid; other map sizes resize it (training starts on smaller pictures).
    """

    def __init__(self, width: int, layers: int, grid: int) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(1, width, grid, grid))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 8, 3 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mix all places of the map."""
        position: Tensor = self.position
        if position.shape[-2:] != features.shape[-2:]:
            size = features.shape[-2:]
            position = functional.interpolate(position, size, mode="bilinear", align_corners=False)
        tokens = (features + position).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.transpose(1, 2).reshape_as(features)
