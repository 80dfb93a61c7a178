"""The supervised stand-in: a network of nano SAM's size that was shown where the occluders are [design 6, control d].

It stands where the paper lists supervised methods. The image encoder is nano SAM's own (3.81 M parameters); in the
place of prompts and mask decoder (0.65 M) it has a plain decoder (0.63 M) with one fine skip connection, so that
outlines are not its handicap: 4.44 M parameters in all, nano SAM has 4.47 M.

    (B, 3, S, S) -> tokens (B, 128, S/8, S/8) -> S/4 -> S/2, joined by fine features of the picture -> logit map
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, conv_norm
from s3pot.sam.nano_encoder import NanoImageEncoder

SUPERVISED_SIZE = 256
_TOKENS, _FINE, _QUARTER, _HALF = 128, 32, 96, 48


class SupervisedSegmenter(nn.Module):
    """Occlusion logits of aligned faces; (B, 3, S, S) in [0, 1] -> (B, S/2, S/2), S a multiple of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NanoImageEncoder(SUPERVISED_SIZE, _TOKENS)
        self.fine = conv_norm(3, _FINE, stride=2)
        self.up4 = nn.Sequential(ConvBlock(_TOKENS), conv_norm(_TOKENS, _QUARTER))
        self.refine = ConvBlock(_QUARTER)
        self.up2 = conv_norm(_QUARTER + _FINE, _HALF)
        self.head = nn.Conv2d(_HALF, 1, 1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h2 w2"]:
        """Return the logit of "an occluder over the face" at half the resolution of the picture."""
        # About the deviation of photographs: the encoder's first layer expects numbers around 1.
        scaled = (image - 0.5) * 4.0
        features = _double(self.up4(self.encoder(scaled)))
        features = _double(self.refine(features))
        return self.head(self.up2(torch.cat([features, self.fine(scaled)], dim=1)))[:, 0]

    def predict(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Float32[np.ndarray, "_ _"]]:
        """Predict aligned pictures.

        Args:
            images: (H, W, 3) uint8 RGB with a long side of 256.

        Returns:
            For each picture the (H, W) float32 probability of occlusion; above 0.5 counts as occluded.

        Raises:
            ValueError: for a picture of another size.
        """
        squares = np.zeros((len(images), SUPERVISED_SIZE, SUPERVISED_SIZE, 3), dtype=np.uint8)
        for square, image in zip(squares, images, strict=True):
            if max(image.shape[:2]) != SUPERVISED_SIZE:
                raise ValueError(f"an aligned picture has a long side of {SUPERVISED_SIZE}, got {image.shape}")
            square[: image.shape[0], : image.shape[1]] = image
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).to(self.head.weight.device).float() / 255.0
        with torch.no_grad():
            logits = _double(self(pixels)[:, None], mode="bilinear")[:, 0]
        probability = logits.float().sigmoid().cpu().numpy()
        return [
            np.ascontiguousarray(row[: image.shape[0], : image.shape[1]])
            for row, image in zip(probability, images, strict=True)
        ]


def _double(features: Tensor, mode: str = "nearest") -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode=mode)
