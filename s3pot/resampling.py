"""Change the resolution of batches of maps, as Pillow's bilinear filter does."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def resample(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c height width"]:
    """Resize pictures, logits or features, without aliasing where they shrink.

    Args:
        maps: (B, C, H, W) float.
        size: (height, width) of the result; the same tensor comes back when it has that size.
    """
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)
