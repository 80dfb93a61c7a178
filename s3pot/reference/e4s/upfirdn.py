"""Blur and upsampling by a small FIR filter, in plain PyTorch [Karras et al. 2020, StyleGAN2, section 4].

Upsampling puts zeros between the pixels and blurs; the filter is [1, 3, 3, 1] in both directions, with a gain of 4 that
makes up for the zeros. The filters are read from the checkpoint, where they are stored as 4 x 4 arrays.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TAPS = 4


def fir_kernel(gain: float = 4.0) -> Float[Tensor, "4 4"]:
    """Return the filter [1, 3, 3, 1] in both directions, float32, with the given sum."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps)
    return kernel * (gain / kernel.sum())


def blur(features: Float[Tensor, "b c h w"], kernel: Float[Tensor, "4 4"], pad: int) -> Float[Tensor, "b c k l"]:
    """Convolve every channel with the filter.

    Args:
        features: (B, C, H, W) float.
        kernel: the filter.
        pad: zeros put around the picture.

    Returns:
        (B, C, H + 2 pad - 3, W + 2 pad - 3).
    """
    channels = features.shape[1]
    weight = kernel.flip((0, 1)).to(features).expand(channels, 1, TAPS, TAPS)
    return functional.conv2d(features, weight, padding=pad, groups=channels)


def upsample(picture: Float[Tensor, "b c h w"], kernel: Float[Tensor, "4 4"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """Double the resolution: the zeros between the pixels are never multiplied.

    Args:
        picture: (B, C, H, W) float; meant for few channels.
        kernel: the filter, with gain 4.
    """
    channels = picture.shape[1]
    weight = kernel.to(picture).expand(channels, 1, TAPS, TAPS)
    return functional.conv_transpose2d(picture, weight, stride=2, padding=1, groups=channels)
