"""The generator of E4S as it is defined: every layer convolves the whole map once per region and keeps its pixels.

It shares nothing with `s3pot.reference.e4s` but the parameters. The tests use it as oracle, the benchmark as rival.
"""

import torch
from torch import Tensor
from torch.nn import functional

from s3pot.reference.e4s.layers import ModulatedConv
from s3pot.reference.e4s.synthesis import Synthesis


@torch.no_grad()
def literal_generate(generator: Synthesis, codes: Tensor, labels: Tensor, regional_layers: int) -> Tensor:
    """Draw one picture; codes (1, R, L, code), labels (1, H, W) -> (1, 3, S, S)."""
    features = generator.input.input
    picture = torch.zeros(1, 3, 1, 1)
    for index in range(codes.shape[2] - 1):
        layer = generator.conv1 if index == 0 else generator.convs[index - 1]
        features = by_region(layer.conv, features, codes, labels, index, regional_layers)
        features = features + layer.noise.weight * generator.noises.get_buffer(f"noise_{index}")
        features = functional.leaky_relu(features + layer.activate.bias[None, :, None, None], 0.2) * 2**0.5
        if index % 2 == 0:
            rgb = generator.to_rgb1 if index == 0 else generator.to_rgbs[index // 2 - 1]
            coloured = by_region(rgb.conv, features, codes, labels, index + 1, regional_layers) + rgb.bias
            picture = coloured if index == 0 else coloured + upsampled(picture, rgb.upsample.kernel)
    return picture


def by_region(
    conv: ModulatedConv, features: Tensor, codes: Tensor, labels: Tensor, index: int, regional_layers: int
) -> Tensor:
    """Convolve once per region and sum the masked results; a layer past the regional ones takes region 0 everywhere."""
    if index >= regional_layers:
        return convolved(conv, features, codes[:, 0, index])
    result: Tensor | None = None
    for region in range(codes.shape[1]):
        whole = convolved(conv, features, codes[:, region, index])
        mask = (labels == region).float()[:, None]
        part = whole * functional.interpolate(mask, whole.shape[-2:], mode="nearest")
        result = part if result is None else result + part
    assert result is not None
    return result


def convolved(conv: ModulatedConv, features: Tensor, code: Tensor) -> Tensor:
    """Convolve everything in one style; colour layers (three channels) are not demodulated."""
    outputs, inputs, side, _ = conv.weight[0].shape
    linear = conv.modulation
    style = functional.linear(code, linear.weight / code.shape[1] ** 0.5, linear.bias)
    weight = conv.weight[0] * style[0][:, None, None] / (inputs * side**2) ** 0.5
    if side == 3:
        weight = weight / torch.sqrt((weight**2).sum((1, 2, 3), keepdim=True) + 1e-8)
    if not hasattr(conv, "blur"):
        return functional.conv2d(features, weight, padding=side // 2)
    doubled = functional.conv_transpose2d(features, weight.transpose(0, 1), stride=2)
    filters = conv.blur.kernel.flip((0, 1)).expand(outputs, 1, 4, 4)
    return functional.conv2d(doubled, filters, padding=1, groups=outputs)


def upsampled(picture: Tensor, kernel: Tensor) -> Tensor:
    """Put a zero after every pixel, then blur."""
    height, width = picture.shape[2:]
    spread = picture.new_zeros(1, 3, height, 2, width, 2)
    spread[:, :, :, 0, :, 0] = picture
    spread = functional.pad(spread.view(1, 3, 2 * height, 2 * width), (2, 1, 2, 1))
    return functional.conv2d(spread, kernel.flip((0, 1)).expand(3, 1, 4, 4), groups=3)
