"""The embedded reference generator: redraws a face from the picture and its completed parsing.

Like E4S, texture comes from the picture and structure from the parsing [S3POT 3.1]. The face is drawn from a 16 x 16
map, mixed by transformer layers, while the parsing enters again at every scale. Plain skip connections would copy most
of the occluder [design 7]; here a gate, one number per place, lets detail through only where picture and drawing agree.
Finer gates open at most as far as coarser ones, which see the whole face.

    image + parsing -> stride 2, 4, 8 -> 16, (B, 192, 16, 16) -> + parsing and gated detail, 16 ... 128 -> pixel shuffle
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, GridTransformer, conv_norm
from s3pot.parsing.classes import CLASSES
from s3pot.resampling import resample

GENERATOR_SIZE = 256
_REGIONS = len(CLASSES)
_WIDTHS = (160, 128, 96, 48)
# Channels of detail let through at strides 8, 4 and 2, and what they are reduced from.
_DETAIL, _ENCODED = (48, 32, 16), (128, 64, 32)


class DetailGate(nn.Module):
    """Let detail of the picture through where it agrees with what has been drawn so far.

    Args:
        drawn: channels of the drawing.
        encoded: channels of the picture's features.
        detail: channels that are let through.
    """

    def __init__(self, drawn: int, encoded: int, detail: int) -> None:
        super().__init__()
        self.detail = nn.Conv2d(encoded, detail, 1)
        self.compare = nn.Sequential(conv_norm(drawn + detail, 32), nn.Conv2d(32, 1, 1))

    def forward(
        self,
        drawing: Float[Tensor, "b d h w"],
        features: Float[Tensor, "b e h w"],
        coarser: Float[Tensor, "b 1 h w"] | None,
    ) -> tuple[Float[Tensor, "b s h w"], Float[Tensor, "b 1 h w"]]:
        """Return the detail let through, and the gate in [0, 1]."""
        detail = self.detail(features)
        gate = torch.sigmoid(self.compare(torch.cat([drawing, detail], dim=1)))
        if coarser is not None:
            gate = gate * coarser
        return gate * detail, gate


class ReferenceGenerator(nn.Module):
    """Generate an unoccluded reference; pictures (B, 3, S, S) in [0, 1] and one-hot parsing (B, 12, S, S)."""

    def __init__(self) -> None:
        super().__init__()
        self.stage2 = conv_norm(3 + _REGIONS, 32, stride=2)
        self.stage4 = conv_norm(32, 64, stride=2)
        self.stage8 = nn.Sequential(conv_norm(64, 128, stride=2), ConvBlock(128))
        self.stage16 = conv_norm(128, 192, stride=2)
        self.context = GridTransformer(192, layers=2, grid=GENERATOR_SIZE // 16)
        drawn = (192, *_WIDTHS[:-1])
        self.gates = nn.ModuleList(
            DetailGate(width, encoded, detail)
            for width, encoded, detail in zip(drawn[1:], _ENCODED, _DETAIL, strict=True)
        )
        self.merges = nn.ModuleList(
            conv_norm(width_in + detail + _REGIONS, width)
            for width_in, detail, width in zip(drawn, (0, *_DETAIL), _WIDTHS, strict=True)
        )
        self.blocks = nn.ModuleList(ConvBlock(width) for width in _WIDTHS)
        # The finest parsing enters folded 2 x 2 into channels, so that outlines are drawn at full resolution.
        self.final = conv_norm(_WIDTHS[-1] + 4 * _REGIONS, 48)
        self.to_rgb = nn.Conv2d(48, 12, 3, padding=1)

    def forward(self, image: Float[Tensor, "b 3 h w"], parsing: Float[Tensor, "b 12 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return the reference, in [0, 1]."""
        half = self.stage2(torch.cat([image - 0.5, parsing], dim=1))
        quarter = self.stage4(half)
        eighth = self.stage8(quarter)
        drawing = self.context(self.stage16(eighth))
        drawing = self.blocks[0](self.merges[0](torch.cat([drawing, _regions(parsing, drawing)], dim=1)))
        gate = None
        for scale, features in enumerate((eighth, quarter, half), start=1):
            drawing = functional.interpolate(drawing, scale_factor=2.0, mode="nearest")
            gate = None if gate is None else functional.interpolate(gate, scale_factor=2.0, mode="nearest")
            detail, gate = self.gates[scale - 1](drawing, features, gate)
            merged = self.merges[scale](torch.cat([drawing, detail, _regions(parsing, drawing)], dim=1))
            drawing = self.blocks[scale](merged)
        drawing = self.final(torch.cat([drawing, functional.pixel_unshuffle(parsing, 2)], dim=1))
        return torch.sigmoid(functional.pixel_shuffle(self.to_rgb(drawing), 2))


def _regions(parsing: Tensor, like: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(parsing, (like.shape[-2], like.shape[-1]))


def one_hot_parsing(parsing: UInt8[Tensor, "b h w"]) -> Float[Tensor, "b 12 h w"]:
    """Turn class ids into (B, 12, H, W) float32 zeros and ones."""
    return functional.one_hot(parsing.long(), _REGIONS).permute(0, 3, 1, 2).float()


def generate_references(
    generator: ReferenceGenerator, images: Float[Tensor, "b 3 h w"], parsing: UInt8[Tensor, "b h w"]
) -> UInt8[Tensor, "b h w 3"]:
    """Generate references as pictures.

    Args:
        generator: the network, in eval mode.
        images: (B, 3, H, W) float RGB in [0, 1], aligned; square ones above 256 px are redrawn at 256 px.
        parsing: (B, H, W) uint8 completed parsing.

    Returns:
        (B, H, W, 3) uint8 RGB, at the resolution of the pictures.
    """
    height, width = images.shape[-2:]
    known = (height, width) if max(height, width) <= GENERATOR_SIZE else (GENERATOR_SIZE, GENERATOR_SIZE)
    with torch.no_grad():
        drawn = generator(resample(images, known), resample(one_hot_parsing(parsing), known))
        reference = resample(drawn, (height, width))
    return (reference.permute(0, 2, 3, 1) * 255.0 + 0.5).clamp(0, 255).to(torch.uint8)
