"""E4S, regional GAN inversion: texture of a picture, region by region, drawn along a given parsing.

    image (B, 3, H, W), labels -> style vectors (B, R, 1280) -> codes (B, R, 18, 512) -> picture (B, 3, 1024, 1024)

[Liu et al. 2023, "Fine-Grained Face Swapping via Regional GAN Inversion"]. Names and shapes of the weights are those of
the released checkpoint; the tests hold them against facts measured on the released network.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.reference.e4s.encoder import ENCODER_SIZE, RegionEncoder
from s3pot.reference.e4s.style_heads import StyleHead, pool_regions
from s3pot.reference.e4s.synthesis import Synthesis


@dataclass(frozen=True, kw_only=True)
class E4SConfig:
    """Sizes of the network; the defaults are those of the released one."""

    size: int = 1024
    """Side of the picture that is drawn, px: a power of two of at least 8."""
    regions: int = 12
    """Regions, as many as there are parsing classes."""
    regional_layers: int = 13
    """Layers with a style per region (K of the paper); the finer ones take the style of region 0."""
    code: int = 512
    """Values of a style code, and channels of the generator's coarse layers."""
    encoder_width: int = 512
    """Channels of the deepest stage of the encoder."""
    encoder_units: tuple[int, int, int, int] = (3, 4, 14, 3)
    """Residual units per stage of the encoder."""
    mapping_layers: int = 8
    """Layers of the mapping network, which the checkpoint holds and nothing here uses."""

    def __post_init__(self) -> None:
        if self.size < 8 or self.size & (self.size - 1):
            raise ValueError(f"size must be a power of two of at least 8, got {self.size}")
        if not 0 < self.regional_layers <= self.layers:
            raise ValueError(
                f"regional_layers must be in [1, {self.layers}] at {self.size} px, got {self.regional_layers}"
            )

    @property
    def layers(self) -> int:
        """Style codes per region: 18 at 1024 px."""
        return 2 * self.size.bit_length() - 4


class E4S(nn.Module):
    """Encoder, one style head per region, generator; for inference, no gradients.

    Args:
        config: sizes.
    """

    latent_avg: Tensor

    def __init__(self, config: E4SConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or E4SConfig()
        self.encoder = RegionEncoder(config.encoder_width, config.encoder_units)
        vector = config.encoder_width * 5 // 2
        self.MLPs = nn.ModuleList(StyleHead(vector, config.code, config.regional_layers) for _ in range(config.regions))
        self.G = Synthesis(config.size, config.code, config.regional_layers, config.mapping_layers)
        # In the checkpoint the average code lies beside the state dict, not in it.
        self.register_buffer("latent_avg", torch.zeros(config.layers, config.code), persistent=False)

    @torch.no_grad()
    def style_vectors(self, image: Float[Tensor, "b 3 h w"], labels: UInt8[Tensor, "b k l"]) -> Float[Tensor, "b r v"]:
        """Describe each region's look.

        Args:
            image: (B, 3, H, W) float RGB in [-1, 1], aligned; seen at 256 px.
            labels: (B, h, w) uint8 region ids; 255 marks pixels that shall describe no region.

        Returns:
            (B, R, V) float, V = 1280; zeros for a region without a pixel.
        """
        size = (ENCODER_SIZE, ENCODER_SIZE)
        small = functional.interpolate(image, size, mode="bilinear", align_corners=False)
        return pool_regions(self.encoder(small), labels, self.config.regions)

    @torch.no_grad()
    def style_codes(self, vectors: Float[Tensor, "b r v"]) -> Float[Tensor, "b r l s"]:
        """Turn style vectors into one code per region and layer, (B, R, L, code); finer layers get the average code."""
        learned = torch.stack([head(vectors[:, region]) for region, head in enumerate(self.MLPs)], dim=1)
        finer = self.config.layers - self.config.regional_layers
        return functional.pad(learned, (0, 0, 0, finer)) + self.latent_avg

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        labels: UInt8[Tensor, "b k l"],
        target: UInt8[Tensor, "b m n"] | None = None,
        fresh_noise: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 s s"]:
        """Redraw faces.

        Args:
            image: (B, 3, H, W) float RGB in [-1, 1], aligned: where the looks of the regions come from.
            labels: (B, h, w) uint8 region ids of the image; 255 marks pixels that shall describe no region.
            target: (B, h, w) uint8 region ids to draw (default: `labels`), all below R.
            fresh_noise: generator, on the model's device, that draws the noise anew;
                without it the stored noise is used and results repeat.

        Returns:
            (B, 3, S, S) float RGB, about [-1, 1], not clipped.
        """
        codes = self.style_codes(self.style_vectors(image, labels))
        return self.G(codes, labels if target is None else target, fresh_noise)
