"""Parameters of the generator's layers, named as in the checkpoint, and how a style code becomes scales.

A style scales the input channels of a convolution, then the output channels are brought back to unit variance
[Karras et al. 2020, StyleGAN2, section 2.2]. Both are factors beside one shared weight:

    output[o] = demodulation[o] * sum over c of weight[o, c] * scales[c] * input[c]
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from s3pot.reference.e4s.style_heads import EqualLinear
from s3pot.reference.e4s.upfirdn import fir_kernel


class FirFilter(nn.Module):
    """Holder of a stored 4 x 4 filter."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel())


class ModulatedConv(nn.Module):
    """Weights of a convolution whose input channels a style scales.

    Args:
        width_in: channels that come in.
        width: channels that go out.
        side: side of the kernel, 1 or 3.
        code: values of a style code.
        upsample: the convolution doubles the resolution and blurs.
    """

    def __init__(self, width_in: int, width: int, side: int, code: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, width, width_in, side, side))
        if upsample:
            self.blur = FirFilter()
        self.modulation = EqualLinear(code, width_in, bias=1.0)
        self._gain = (width_in * side**2) ** -0.5

    def scales(self, codes: Float[Tensor, "r s"]) -> Float[Tensor, "r c"]:
        """Return what each style multiplies the input channels by; the constant gain of the weights is part of it."""
        return self.modulation(codes) * self._gain

    def demodulation(self, scales: Float[Tensor, "r c"]) -> Float[Tensor, "r o"]:
        """Return what brings each style's output channels back to unit variance."""
        squares = self.weight[0].square().sum((2, 3))
        return torch.rsqrt(functional.linear(scales.square(), squares) + 1e-8)


class NoiseGain(nn.Module):
    """Holder of the learned strength of the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class BiasedActivation(nn.Module):
    """Holder of the bias before the activation.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))


class StyledLayer(nn.Module):
    """Parameters of one styled layer: convolution, noise, bias.

    Args:
        width_in: channels that come in.
        width: channels that go out.
        code: values of a style code.
        upsample: the layer doubles the resolution.
    """

    def __init__(self, width_in: int, width: int, code: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(width_in, width, 3, code, upsample=upsample)
        self.noise = NoiseGain()
        self.activate = BiasedActivation(width)


class RgbLayer(nn.Module):
    """Parameters of a layer that turns features into colour and adds the coarser picture.

    Args:
        width: channels that come in.
        code: values of a style code.
        upsample: there is a coarser picture.
    """

    def __init__(self, width: int, code: int, *, upsample: bool) -> None:
        super().__init__()
        if upsample:
            self.upsample = FirFilter()
        self.conv = ModulatedConv(width, 3, 1, code)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
