"""The embedded reference generator: redraws a face from a narrow summary of the picture and its completed parsing.

Like E4S, texture comes from the picture and structure from the parsing [S3POT 3.1]. There are no skip connections: with
full-resolution skips a network of this size copies most of the occluder [design 7]. What passes is a 16 x 16 map, mixed
by transformer layers; the parsing enters again at every scale of the decoder.

    image + parsing -> stride 16, (B, 192, 16, 16) -> + parsing at 16, 32, 64, 128 -> pixel shuffle -> (B, 3, 256, 256)
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, GridTransformer, conv_norm
from s3pot.parsing.classes import CLASSES

GENERATOR_SIZE = 256
_REGIONS = len(CLASSES)
_WIDTHS = (160, 128, 96, 48)


class ReferenceGenerator(nn.Module):
    """Generate an unoccluded reference; pictures (B, 3, S, S) in [0, 1] and one-hot parsing (B, 12, S, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            conv_norm(3 + _REGIONS, 32, stride=2),
            conv_norm(32, 64, stride=2),
            conv_norm(64, 128, stride=2),
            ConvBlock(128),
            conv_norm(128, 192, stride=2),
        )
        self.context = GridTransformer(192, layers=2, grid=GENERATOR_SIZE // 16)
        narrow = (192, *_WIDTHS[:-1])
        self.merges = nn.ModuleList(
            conv_norm(width_in + _REGIONS, width) for width_in, width in zip(narrow, _WIDTHS, strict=True)
        )
        self.blocks = nn.ModuleList(ConvBlock(width) for width in _WIDTHS)
        # The finest parsing enters folded 2 x 2 into channels, so that outlines are drawn at full resolution.
        self.final = conv_norm(_WIDTHS[-1] + 4 * _REGIONS, 48)
        self.to_rgb = nn.Conv2d(48, 12, 3, padding=1)

    def forward(self, image: Float[Tensor, "b 3 h w"], parsing: Float[Tensor, "b 12 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the reference, in [0, 1]."""
        features = self.context(self.encoder(torch.cat([image - 0.5, parsing], dim=1)))
        for scale, (merge, block) in enumerate(zip(self.merges, self.blocks, strict=True)):
            if scale:
                features = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            regions = functional.adaptive_avg_pool2d(parsing, features.shape[-2:])
            features = block(merge(torch.cat([features, regions], dim=1)))
        features = self.final(torch.cat([features, functional.pixel_unshuffle(parsing, 2)], dim=1))
        return torch.sigmoid(functional.pixel_shuffle(self.to_rgb(features), 2))


def one_hot_parsing(parsing: UInt8[Tensor, "b h w"]) -> Float[Tensor, "b 12 h w"]:
    """Turn class ids into (B, 12, H, W) float32 zeros and ones."""
    return functional.one_hot(parsing.long(), _REGIONS).permute(0, 3, 1, 2).float()


def generate_references(
    generator: ReferenceGenerator, images: Float[Tensor, "b 3 h w"], parsing: UInt8[Tensor, "b h w"]
) -> UInt8[Tensor, "b h w 3"]:
    """Generate references as pictures.

    Args:
        generator: the network, in eval mode.
        images: (B, 3, H, W) float RGB in [0, 1], aligned.
        parsing: (B, H, W) uint8 completed parsing.

    Returns:
        (B, H, W, 3) uint8 RGB.
    """
    with torch.no_grad():
        reference: Tensor = generator(images, one_hot_parsing(parsing))
    return (reference.permute(0, 2, 3, 1) * 255.0 + 0.5).clamp(0, 255).to(torch.uint8)
