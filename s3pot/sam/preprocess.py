"""Stock SAM preprocessing and the frames of the token grid.

A picture is resized by its long side, normalised, and padded at the bottom and right to a square: the `model` frame.
Tokens whose centre lies in the padding are not valid: they take no part in similarity, argmax and matching.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional


def model_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Return the (height, width) of a picture in the model frame, without its padding."""
    rows, cols = ResizeLongestSide.get_preprocess_shape(height, width, image_size)
    return int(rows), int(cols)


def preprocess(sam: Sam, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float[Tensor, "b 3 s s"]:
    """Resize, normalise and pad pictures exactly as stock SAM does.

    Args:
        sam: gives the model frame's side, mean, deviation and device.
        images: (H, W, 3) uint8 RGB pictures of any sizes.

    Raises:
        ValueError: for an empty batch, or a picture of another shape or dtype.
    """
    if not images:
        raise ValueError("no images to preprocess")
    resize = ResizeLongestSide(sam.image_encoder.img_size)
    batch = []
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"expected (H, W, 3) uint8 RGB pictures, got {image.shape} {image.dtype}")
        resized = image if max(image.shape[:2]) == resize.target_length else resize.apply_image(image)
        pixels = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1).to(sam.device, torch.float32)
        batch.append(sam.preprocess(pixels))
    return torch.stack(batch)


def valid_tokens(
    heights_widths: Sequence[tuple[int, int]], image_size: int, patch: int, device: torch.device | str = "cpu"
) -> Bool[Tensor, "b n"]:
    """Mark the tokens whose centre lies in the picture rather than in the padding; n = (image_size / patch)^2."""
    grid = image_size // patch
    centers = (torch.arange(grid, device=device) + 0.5) * patch
    rows = []
    for height, width in heights_widths:
        inside_height, inside_width = model_size(height, width, image_size)
        inside = (centers < inside_height)[:, None] & (centers < inside_width)[None, :]
        rows.append(inside.flatten())
    return torch.stack(rows)


def token_centers_xy(prompt_ids: Int[Tensor, "b n"], grid_width: int, patch: int) -> Float[Tensor, "b n 2"]:
    """Return (x, y) of token centres in pixels of the model frame.

    Stock SAM adds 0.5 to every point, so a centre is (col + 0.5) * patch - 0.5.
    """
    cols, rows = prompt_ids % grid_width, prompt_ids // grid_width
    return (torch.stack([cols, rows], dim=-1).float() + 0.5) * patch - 0.5


def mask_to_picture(
    mask_logits: Float[Tensor, "b m m"], picture_size: tuple[int, int], image_size: int
) -> Float[Tensor, "b height width"]:
    """Bring low-resolution mask logits to the frame of the picture, as stock `postprocess_masks` does.

    Args:
        mask_logits: (B, m, m) logits over the padded model frame.
        picture_size: (height, width) of the picture that was encoded (the same for the whole batch).
        image_size: side of the model frame.
    """
    rows, cols = model_size(*picture_size, image_size)
    large = functional.interpolate(mask_logits[:, None], (image_size, image_size), mode="bilinear", align_corners=False)
    inside = large[..., :rows, :cols]
    return functional.interpolate(inside, picture_size, mode="bilinear", align_corners=False)[:, 0]
