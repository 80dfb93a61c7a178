"""The embedded face parser: 12 classes, trained to parse *through* occluders [design 5.10].

It is asked for the clean face's labels while it sees the occluded face, so its output is already a completed parsing
(`face_completion: parser`). A U-Net with transformer layers at stride 16: what lies under a hand follows from the rest
of the face.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, GridTransformer, conv_norm
from s3pot.parsing.classes import CLASSES
from s3pot.resampling import resample

PARSER_SIZE = 256


class FaceParser(nn.Module):
    """Parse aligned faces; (B, 3, S, S) in [0, 1] -> logits (B, 12, S, S), S a multiple of 16 (256 after training)."""

    def __init__(self) -> None:
        super().__init__()
        self.stage2 = conv_norm(3, 32, stride=2)
        self.stage4 = nn.Sequential(conv_norm(32, 64, stride=2), ConvBlock(64))
        self.stage8 = nn.Sequential(conv_norm(64, 96, stride=2), ConvBlock(96))
        self.stage16 = nn.Sequential(conv_norm(96, 160, stride=2), ConvBlock(160))
        self.context = GridTransformer(160, layers=2, grid=PARSER_SIZE // 16)
        self.up8 = nn.Sequential(conv_norm(160 + 96, 96), ConvBlock(96))
        self.up4 = nn.Sequential(conv_norm(96 + 64, 64), ConvBlock(64))
        self.up2 = conv_norm(64 + 32, 32)
        self.head = nn.Conv2d(32, len(CLASSES), 1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 12 h w"]:
        """Return class logits at the resolution of the picture."""
        half = self.stage2(image - 0.5)
        quarter = self.stage4(half)
        eighth = self.stage8(quarter)
        features = self.context(self.stage16(eighth))
        features = self.up8(torch.cat([_double(features), eighth], dim=1))
        features = self.up4(torch.cat([_double(features), quarter], dim=1))
        features = self.up2(torch.cat([_double(features), half], dim=1))
        return functional.interpolate(self.head(features), scale_factor=2.0, mode="bilinear", align_corners=False)


def parse_faces(parser: FaceParser, images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w"]:
    """Parse aligned faces; the most likely class of every pixel.

    Args:
        parser: the network, in eval mode.
        images: (B, 3, H, W) float RGB in [0, 1]; square ones above 256 px are seen at 256 px.

    Returns:
        (B, H, W) uint8 ids into `CLASSES`, at the resolution of the pictures.
    """
    with torch.no_grad():
        height, width = images.shape[-2:]
        known = (height, width) if max(height, width) <= PARSER_SIZE else (PARSER_SIZE, PARSER_SIZE)
        # Logits, not labels, are brought to the size of the pictures: borders stay smooth.
        labels: Tensor = resample(parser(resample(images, known)), (height, width)).argmax(dim=1)
    return labels.to(torch.uint8)


def _double(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")
