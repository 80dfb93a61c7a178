"""The generator of E4S: StyleGAN2 in which every region of the picture has its own style in the first layers.

The finest layers (from index `regional_layers` on) take one style for the whole picture. In the regional part features
lie pixel by pixel, (H, W, C); the whole-picture part uses ordinary convolutions in channels-last memory, so nothing is
copied between the two.

    codes (B, R, L, 512), labels (B, H, W) -> picture (B, 3, S, S), about [-1, 1]
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from s3pot.reference.e4s.layers import ModulatedConv, RgbLayer, StyledLayer
from s3pot.reference.e4s.regional_conv import regional_conv, regional_up_conv
from s3pot.reference.e4s.style_heads import EqualLinear, resize_labels
from s3pot.reference.e4s.upfirdn import blur, upsample

_SLOPE, _GAIN = 0.2, 2**0.5
_FIRST = 4  # side of the learned constant input
_FULL_WIDTH_UP_TO = 64  # resolution from which on the channels halve with every doubling


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What one picture is drawn from."""

    codes: Float[Tensor, "r l s"]
    """(R, L, code): one style per region and layer."""
    labels: UInt8[Tensor, "h w"]
    """(H, W) region ids below R."""
    fresh_noise: torch.Generator | None = None
    """Draws the noise anew; without it the stored noise is used."""


class PixelNorm(nn.Module):
    """First step of the mapping network; it has no parameters and keeps its place among the checkpoint's names."""


class ConstantInput(nn.Module):
    """Holder of the learned constant input.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, width, _FIRST, _FIRST))


class Synthesis(nn.Module):
    """The generator.

    Args:
        size: side of the picture, a power of two of at least 8.
        code: values of a style code, and channels of the coarse layers.
        regional_layers: codes from this index on are taken from region 0 for the whole picture.
        mapping_layers: layers of StyleGAN2's mapping network, part of the checkpoint and never used here.
    """

    def __init__(self, size: int, code: int, regional_layers: int, mapping_layers: int) -> None:
        super().__init__()
        self.style = nn.Sequential(PixelNorm(), *(EqualLinear(code, code, rate=0.01) for _ in range(mapping_layers)))
        self.input = ConstantInput(code)
        self.conv1 = StyledLayer(code, code, code)
        self.to_rgb1 = RgbLayer(code, code, upsample=False)
        self.convs, self.to_rgbs, self.noises = nn.ModuleList(), nn.ModuleList(), nn.Module()
        self.noises.register_buffer("noise_0", torch.randn(1, 1, _FIRST, _FIRST))
        width_in = code
        for level in range(3, int(math.log2(size)) + 1):
            side = 2**level
            width = min(code, code * _FULL_WIDTH_UP_TO // side)
            self.convs.append(StyledLayer(width_in, width, code, upsample=True))
            self.convs.append(StyledLayer(width, width, code))
            self.to_rgbs.append(RgbLayer(width, code, upsample=True))
            for index in (2 * level - 5, 2 * level - 4):
                self.noises.register_buffer(f"noise_{index}", torch.randn(1, 1, side, side))
            width_in = width
        self._regional_layers = regional_layers

    @torch.no_grad()
    def forward(
        self,
        codes: Float[Tensor, "b r l s"],
        labels: UInt8[Tensor, "b h w"],
        fresh_noise: torch.Generator | None = None,
    ) -> Float[Tensor, "b 3 k k"]:
        """Draw pictures; for inference, no gradients.

        Args:
            codes: (B, R, L, code), one style per region and layer.
            labels: (B, H, W) uint8 region ids below R; resized to each layer by the nearest pixel.
            fresh_noise: generator, on the model's device, that draws the noise anew;
                without it the noise stored with the weights is used.

        Returns:
            (B, 3, S, S) float, about [-1, 1], not clipped.

        Raises:
            ValueError: if a label is not below R.
        """
        if int(labels.max()) >= codes.shape[1]:
            raise ValueError(f"label {int(labels.max())} has no style code: there are {codes.shape[1]} regions")
        # One picture after the other: memory does not grow with the batch, and one fills the machine.
        scenes = [
            Scene(codes=code, labels=ids, fresh_noise=fresh_noise) for code, ids in zip(codes, labels, strict=True)
        ]
        return torch.stack([self._draw(scene) for scene in scenes])

    def _draw(self, scene: Scene) -> Tensor:
        features, picture = self.draw_level(scene, 0)
        for level in range(1, len(self.to_rgbs) + 1):
            features, picture = self.draw_level(scene, level, features, picture)
        return picture[0]

    @torch.no_grad()
    def draw_level(
        self,
        scene: Scene,
        level: int,
        features: Float[Tensor, "h w c"] | None = None,
        picture: Float[Tensor, "1 3 h w"] | None = None,
    ) -> tuple[Float[Tensor, "k k o"], Float[Tensor, "1 3 k k"]]:
        """Draw one resolution.

        Args:
            scene: what to draw.
            level: 0 for 4 px, 1 for 8 px and so on.
            features: what the level before gave; at level 0 the learned constant takes their place.
            picture: likewise; level 0 starts it.

        Returns:
            Features and picture at 4 * 2**level px.
        """
        if features is None:
            features = self._styled(self.conv1, self.input.input[0].permute(1, 2, 0).contiguous(), scene, 0)
            return features, self._coloured(self.to_rgb1, features, scene, 1)
        for index in (2 * level - 1, 2 * level):
            features = self._styled(cast(StyledLayer, self.convs[index - 1]), features, scene, index)
        to_rgb = cast(RgbLayer, self.to_rgbs[level - 1])
        coloured = self._coloured(to_rgb, features, scene, 2 * level + 1)
        assert picture is not None
        return features, coloured.add_(upsample(picture, to_rgb.upsample.kernel))

    def _styled(self, layer: StyledLayer, features: Tensor, scene: Scene, index: int) -> Tensor:
        """Run styled layer `index`; (H, W, C) -> (H, W, O) or (2H, 2W, O)."""
        result = self._convolved(layer.conv, features, scene, index, demodulate=True)
        noise = self.noises.get_buffer(f"noise_{index}")[0, 0, :, :, None]
        if scene.fresh_noise is not None:
            noise = torch.randn(noise.shape, generator=scene.fresh_noise, device=noise.device, dtype=noise.dtype)
        result += layer.noise.weight * noise
        result += layer.activate.bias
        return functional.leaky_relu(result, _SLOPE, inplace=True).mul_(_GAIN)

    def _coloured(self, layer: RgbLayer, features: Tensor, scene: Scene, index: int) -> Tensor:
        """Turn features into colour; (1, 3, H, W)."""
        coloured = self._convolved(layer.conv, features, scene, index, demodulate=False)
        return coloured.permute(2, 0, 1)[None] + layer.bias

    def _convolved(self, conv: ModulatedConv, features: Tensor, scene: Scene, index: int, demodulate: bool) -> Tensor:
        """Convolve in the styles of the regions, or, past the regional layers, in that of region 0 everywhere."""
        codes = scene.codes[:, index] if index < self._regional_layers else scene.codes[:1, index]
        scales = conv.scales(codes)
        gains = conv.demodulation(scales) if demodulate else None
        upsampled = hasattr(conv, "blur")
        if len(scales) == 1:
            weight = conv.weight[0] * scales[0][:, None, None]
            weight = weight if gains is None else weight * gains[0][:, None, None, None]
            return _convolved_whole(features, weight, conv.blur.kernel if upsampled else None)
        side = features.shape[0] * (2 if upsampled else 1)
        ids = resize_labels(scene.labels[None], (side, side))[0].long()
        if upsampled:
            result = regional_up_conv(features, conv.weight[0], scales, ids, conv.blur.kernel)
        else:
            result = regional_conv(features, conv.weight[0], scales, ids)
        return result if gains is None else result.mul_(gains[ids])


def _convolved_whole(features: Tensor, weight: Tensor, kernel: Tensor | None) -> Tensor:
    """Convolve the whole picture with one weight; with a filter, double the resolution and blur."""
    picture = features[None].permute(0, 3, 1, 2)  # channels-last memory, not copied
    if kernel is None:
        result = functional.conv2d(picture, weight, padding=weight.shape[-1] // 2)
    else:
        result = blur(functional.conv_transpose2d(picture, weight.transpose(0, 1), stride=2), kernel, pad=1)
    return result[0].permute(1, 2, 0)
