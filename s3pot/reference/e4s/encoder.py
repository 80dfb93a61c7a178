"""The encoder of E4S: an `ir_se` residual network with instance norm, and pooling of its features per region.

It is the backbone of pSp (residual units with squeeze-and-excitation), twice as wide and with instance norm instead of
batch norm. Features are taken at three depths and averaged over the pixels of each region, so that one vector says how
a region looks and nothing of where it lies.

    image (B, 3, 256, 256) -> (B, 256, 64, 64), (B, 512, 32, 32), (B, 512, 16, 16) -> style vectors (B, R, 1280)
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ENCODER_SIZE = 256


class SqueezeExcitation(nn.Module):
    """Weigh the channels by what their means say.

    In the encoder it follows an instance norm without parameters: the means are zero, and every weight is one half. It
    is kept because the checkpoint has its weights.

    Args:
        width: channels.
        reduction: how many times narrower the bottleneck is.
    """

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(width // reduction, width, 1, bias=False)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the features times one weight in (0, 1) per channel."""
        means = features.mean((2, 3), keepdim=True)
        return features * torch.sigmoid(self.fc2(functional.relu(self.fc1(means))))


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions with squeeze-and-excitation; the second one carries the stride.

    Args:
        width_in: channels that come in.
        width: channels that go out. Where the two differ the shortcut is a 1x1 convolution, else every n-th pixel.
        stride: 1, or 2 to halve the resolution.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        self.shortcut_layer: nn.Sequential | None = None
        if width_in != width:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.InstanceNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.InstanceNorm2d(width_in),
            nn.Conv2d(width_in, width, 3, padding=1, bias=False),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.InstanceNorm2d(width),
            SqueezeExcitation(width),
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d k l"]:
        """Add the unit's output to its shortcut."""
        if self.shortcut_layer is None:
            shortcut = features[:, :, :: self._stride, :: self._stride]
        else:
            shortcut = self.shortcut_layer(features)
        return shortcut + self.res_layer(features)


class RegionEncoder(nn.Module):
    """Four stages of residual units, each halving the resolution.

    Args:
        width: channels of the deepest stage; the stages before it have a quarter, a half and all of it.
        units: residual units per stage.
    """

    def __init__(self, width: int, units: tuple[int, int, int, int]) -> None:
        super().__init__()
        widths = (width // 8, width // 4, width // 2, width, width)
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.InstanceNorm2d(widths[0]), nn.PReLU(widths[0])
        )
        self.body = nn.ModuleList(
            ResidualUnit(widths[stage] if index == 0 else widths[stage + 1], widths[stage + 1], 2 if index == 0 else 1)
            for stage, count in enumerate(units)
            for index in range(count)
        )
        ends = [sum(units[: stage + 1]) - 1 for stage in range(len(units))]
        self._taken_after = tuple(ends[1:])

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c k l"]]:
        """Return the features of the last three stages, strides 4, 8 and 16, of images in [-1, 1]."""
        features = self.input_layer(image)
        taken = []
        for index, unit in enumerate(self.body):
            features = unit(features)
            if index in self._taken_after:
                taken.append(features)
        return taken
