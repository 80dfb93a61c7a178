"""The image encoder of the `nano` SAM: plain 3x3 convolutions, two transformer layers at stride 16, tokens at stride 8.

It takes the place of `ImageEncoderViT`; prompt encoder, two-way transformer and mask decoder are the stock classes.
Depthwise convolutions are slow on CPUs, and global attention at stride 8 would cost more than the rest together.

    (B, 3, S, S) normalised -> stem S/2 -> S/4 -> S/8 -> S/16 + transformer -> up to S/8, added -> (B, C, S/8, S/8)
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, GridTransformer, conv_norm

STEM, QUARTER, EIGHTH, SIXTEENTH = 32, 64, 128, 256


class NanoImageEncoder(nn.Module):
    """Encode a padded, normalised picture into image tokens.

    Args:
        img_size: side of the model frame in pixels (the name is that of the stock encoder, which `Sam` reads).
        out_chans: channels C of the image tokens.
    """

    def __init__(self, img_size: int = 256, out_chans: int = 128) -> None:
        super().__init__()
        self.img_size = img_size
        self.stage4 = nn.Sequential(
            conv_norm(3, STEM, stride=2), conv_norm(STEM, QUARTER, stride=2), ConvBlock(QUARTER)
        )
        self.stage8 = nn.Sequential(conv_norm(QUARTER, EIGHTH, stride=2), ConvBlock(EIGHTH), ConvBlock(EIGHTH))
        self.stage16 = nn.Sequential(conv_norm(EIGHTH, SIXTEENTH, stride=2), ConvBlock(SIXTEENTH))
        self.context = GridTransformer(SIXTEENTH, layers=2, grid=img_size // 16)
        self.lateral = nn.Conv2d(EIGHTH, out_chans, 1)
        self.top_down = nn.Conv2d(SIXTEENTH, out_chans, 1)
        self.neck = nn.Sequential(nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False), nn.GroupNorm(1, out_chans))

    def forward(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c h w"]:
        """Encode; h = w = side / 8."""
        eighth = self.stage8(self.stage4(image))
        top = self.top_down(self.context(self.stage16(eighth)))
        wide = functional.interpolate(top, scale_factor=2.0, mode="nearest")
        return self.neck(self.lateral(eighth) + wide)
