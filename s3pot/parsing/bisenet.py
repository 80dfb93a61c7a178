"""BiSeNet, the face parser of the official scale: 19 classes at 512 px [design 7].

The network of "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation" (ECCV 2018) in the form
that face-parsing.PyTorch released as `79999_iter.pth`: names and shapes of the state dict are those of that file. A
ResNet-18 gives maps at strides 8, 16 and 32; attention refines the two coarse ones and the result is fused with the
fine one, which stands in for the paper's spatial path.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from s3pot.checkpoints.reading import fit, read_contents, state_of
from s3pot.parsing.classes import LabelOrder, table_to_12
from s3pot.resampling import resample

BISENET_SIZE = 512
"""Side of the square pictures that the released weights were trained on."""
BISENET_ORDER: LabelOrder = "face_parsing_pytorch"
# Mean and standard deviation of ImageNet, per RGB channel: what the released weights expect (test.py of their authors).
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTH = 128  # channels of the stride 8 map of ResNet-18 and of both refined maps


class BiSeNetLogits(NamedTuple):
    """Logits (B, 19, H, W) of the three heads; the last two only help training."""

    fused: Tensor
    aux16: Tensor
    aux32: Tensor


class BiSeNet(nn.Module):
    """Parse faces; (B, 3, H, W) RGB in ImageNet normalisation -> logits of 19 classes; order `BISENET_ORDER`."""

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _FeatureFusion(2 * _WIDTH)
        self.conv_out = _Head(2 * _WIDTH, 2 * _WIDTH, classes)
        self.conv_out16 = _Head(_WIDTH, 64, classes)
        self.conv_out32 = _Head(_WIDTH, 64, classes)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> BiSeNetLogits:
        """Return the logits of all three heads at the resolution of the picture."""
        size = image.shape[-2:]
        eighth, context8, context16 = self.cp(image)
        fused = self.ffm(eighth, context8)
        heads = (self.conv_out(fused), self.conv_out16(context8), self.conv_out32(context16))
        return BiSeNetLogits(*(_enlarged(logits, size) for logits in heads))

    def main_logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the logits of the fused head alone."""
        eighth, context8, _ = self.cp(image)
        return _enlarged(self.conv_out(self.ffm(eighth, context8)), image.shape[-2:])


def load_bisenet(path: Path) -> BiSeNet:
    """Load the released face parser (`79999_iter.pth`), float32, frozen, in eval mode.

    Raises:
        WeightsError: if the file is missing, unreadable, or of another network.
    """
    parser = BiSeNet()
    fit(parser, state_of(read_contents(path), path), path)
    return parser


def parse_faces_bisenet(parser: BiSeNet, images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b h w"]:
    """Parse aligned faces of any size; the most likely of the 19 classes of every pixel, told in the 12 of the chain.

    Args:
        parser: the network, in eval mode.
        images: (B, 3, H, W) float RGB in [0, 1]; resized to 512 x 512 and normalised as the released weights expect:
            mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225) of the channels R, G, B.

    Returns:
        (B, H, W) uint8 ids into `s3pot.parsing.classes.CLASSES`, at the resolution of the pictures.
    """
    with torch.no_grad():
        logits = parser.main_logits(bisenet_input(images))
        # Logits, not labels, are brought to the size of the pictures: borders stay smooth.
        height, width = images.shape[-2:]
        table = torch.from_numpy(table_to_12(BISENET_ORDER)).to(images.device)
        labels: Tensor = table[resample(logits, (height, width)).argmax(dim=1)]
    return labels


def bisenet_input(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 512 512"]:
    """Resize RGB pictures in [0, 1] to 512 x 512 as Pillow's bilinear filter does, and normalise them."""
    resized = resample(images, (BISENET_SIZE, BISENET_SIZE))
    mean, std = (images.new_tensor(values).reshape(1, 3, 1, 1) for values in (_MEAN, _STD))
    return (resized - mean) / std


class _ConvNorm(nn.Module):
    def __init__(self, width_in: int, width_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width_out)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(features)))


class _ResNet18(nn.Module):
    """The stages of torchvision's ResNet-18 that give maps; (B, 3, H, W) -> strides 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        stock = resnet18(weights=None)
        self.conv1, self.bn1 = stock.conv1, stock.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = stock.layer1, stock.layer2, stock.layer3, stock.layer4

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = functional.relu(self.bn1(self.conv1(image)))
        features = self.layer1(functional.max_pool2d(features, 3, stride=2, padding=1))
        eighth = self.layer2(features)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _AttentionRefinement(nn.Module):
    """Weigh the channels of a map by what the whole picture shows."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(width_in, width_out, 3)
        self.conv_atten = nn.Conv2d(width_out, width_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(width_out)

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv(features)
        weights = torch.sigmoid(self.bn_atten(self.conv_atten(_mean_of_places(features))))
        return features * weights


class _ContextPath(nn.Module):
    """(B, 3, H, W) -> ResNet map at stride 8, context at stride 8, context at stride 16; 128 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = _ResNet18()
        self.arm16 = _AttentionRefinement(256, _WIDTH)
        self.arm32 = _AttentionRefinement(512, _WIDTH)
        self.conv_head32 = _ConvNorm(_WIDTH, _WIDTH, 3)
        self.conv_head16 = _ConvNorm(_WIDTH, _WIDTH, 3)
        self.conv_avg = _ConvNorm(512, _WIDTH, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth, sixteenth, coarse = self.resnet(image)
        context32 = self.arm32(coarse) + self.conv_avg(_mean_of_places(coarse))
        context16 = self.conv_head32(functional.interpolate(context32, sixteenth.shape[-2:], mode="nearest"))
        refined = self.arm16(sixteenth) + context16
        context8 = self.conv_head16(functional.interpolate(refined, eighth.shape[-2:], mode="nearest"))
        return eighth, context8, context16


class _FeatureFusion(nn.Module):
    """Join detail and context, and strengthen the channels that matter for the picture at hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = _ConvNorm(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        features = self.convblk(torch.cat([detail, context], dim=1))
        weights = torch.sigmoid(self.conv2(functional.relu(self.conv1(_mean_of_places(features)))))
        return features + features * weights


class _Head(nn.Module):
    def __init__(self, width_in: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv = _ConvNorm(width_in, width, 3)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv_out(self.conv(features))


def _mean_of_places(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3), keepdim=True)


def _enlarged(logits: Tensor, size: torch.Size) -> Tensor:
    # Corners aligned, unlike everywhere else in S3POT: the released network was trained so.
    return functional.interpolate(logits, size, mode="bilinear", align_corners=True)
