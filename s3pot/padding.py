"""Pictures of one long side as a square batch, and back: padded at the bottom and right [design 2]."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_pixels(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], size: int, device: torch.device
) -> Float[Tensor, "b 3 s s"]:
    """Return pictures as a batch, float32 in [0, 1]."""
    # The layout of a picture in memory picks the convolution kernels, and their rounding: always the same one.
    stacked = np.ascontiguousarray(np.stack([_pad(image, size) for image in images]))
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(device).float() / 255.0


def stack_padded(arrays: Sequence[np.ndarray], size: int, device: torch.device) -> Tensor:
    """Return arrays (H, W, ...) as one tensor (B, size, size, ...) of their type; padding is 0."""
    return torch.from_numpy(np.stack([_pad(array, size) for array in arrays])).to(device)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    missing = [(0, size - array.shape[0]), (0, size - array.shape[1])]
    return np.pad(array, missing + [(0, 0)] * (array.ndim - 2)) if any(map(any, missing)) else array


def crop_back(batch: Tensor, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Take the padding off again."""
    return [
        np.ascontiguousarray(row[: image.shape[0], : image.shape[1]])
        for row, image in zip(batch.cpu().numpy(), images, strict=True)
    ]
