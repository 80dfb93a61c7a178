"""From regional features to style codes: one small network per region says how the generator shall draw it.

features, labels -> style vectors (B, R, V) -> style codes (B, R, L, 512), L = 18 at 1024 px
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional


class EqualLinear(nn.Module):
    """Linear layer whose weights are stored with unit variance and scaled when used [Karras et al. 2018].

    Args:
        width_in: values that come in.
        width: values that go out.
        bias: first value of every bias.
        rate: learning rate relative to the other layers; weights are stored larger by its inverse.
    """

    def __init__(self, width_in: int, width: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width_in) / rate)
        self.bias = nn.Parameter(torch.full((width,), bias))
        self._weight_scale = rate / width_in**0.5
        self._bias_scale = rate

    def forward(self, values: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """Return weights times values, plus bias."""
        return functional.linear(values, self.weight * self._weight_scale, self.bias * self._bias_scale)


class StyleHead(nn.Module):
    """Network of one region: a style vector becomes one code per regional layer.

    Args:
        vector: values of a style vector.
        code: values of a style code.
        layers: regional layers.
    """

    def __init__(self, vector: int, code: int, layers: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(EqualLinear(vector, code), nn.LeakyReLU(0.01), EqualLinear(code, code * layers))
        self._layers = layers

    def forward(self, vectors: Float[Tensor, "b v"]) -> Float[Tensor, "b l c"]:
        """Return (B, layers, code)."""
        return self.mlp(vectors).unflatten(1, (self._layers, -1))


def resize_labels(labels: UInt8[Tensor, "b h w"], size: tuple[int, int]) -> UInt8[Tensor, "b k l"]:
    """Resize region ids by the nearest pixel, rounding down, which is how masks meet features of any resolution."""
    return functional.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].to(torch.uint8)


def pool_regions(
    features: list[Float[Tensor, "b _ _ _"]], labels: UInt8[Tensor, "b h w"], regions: int
) -> Float[Tensor, "b r v"]:
    """Average features over the pixels of each region.

    Args:
        features: maps (B, C, h, w) of any resolutions.
        labels: (B, H, W) uint8 region ids; pixels with an id that is not below `regions` (say 255) enter no mean.
        regions: number of regions R.

    Returns:
        (B, R, V): the means of all maps, one after the other. Zeros where a region has no pixel at a map's resolution.
    """
    means = []
    for feature in features:
        small = resize_labels(labels, (feature.shape[2], feature.shape[3]))
        ids = small.long().clamp(max=regions).flatten(1)
        masks = functional.one_hot(ids, regions + 1)[..., :regions].to(feature)  # (B, h w, R)
        sums = torch.einsum("bcp,bpr->brc", feature.flatten(2), masks)
        means.append(sums / masks.sum(1).clamp_min(1.0)[..., None])
    return torch.cat(means, dim=2)
