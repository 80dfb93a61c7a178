"""E4S as a reference generator: pictures and parsings of the chain in, references out [S3POT 3.1].

E4S is told two parsings. The one that is drawn is the completed one. The one that styles are pooled by leaves out what
completion relabelled: the look of an occluder must not become the look of skin [design 5.10].
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from s3pot.reference.e4s.model import E4S
from s3pot.resampling import resample

_NOWHERE = 255
"""Label of pixels that describe no region."""


def generate_references_e4s(
    model: E4S,
    images: Float[Tensor, "b 3 h w"],
    seen: UInt8[Tensor, "b h w"],
    completed: UInt8[Tensor, "b h w"],
    valid: Bool[Tensor, "b h w"],
    noise: Sequence[torch.Generator] | None = None,
) -> UInt8[Tensor, "b h w 3"]:
    """Generate references as pictures.

    Args:
        model: the network, frozen.
        images: (B, 3, H, W) float RGB in [0, 1], aligned.
        seen: (B, H, W) uint8 what the parser saw.
        completed: (B, H, W) uint8 what the reference shall show.
        valid: (B, H, W) False in padding, which describes nothing.
        noise: one generator per picture, on the model's device, that draws the noise anew; None = the stored noise.

    Returns:
        (B, H, W, 3) uint8 RGB, in the frame of the pictures.
    """
    described = torch.where((seen == completed) & valid, completed, torch.full_like(completed, _NOWHERE))
    scaled = images * 2.0 - 1.0
    if noise is None:
        drawn = model(scaled, described, completed)
    else:
        # One by one: the noise of a picture must not depend on which others are in its batch.
        rows = zip(scaled, described, completed, noise, strict=True)
        drawn = torch.cat([model(row[None], look[None], target[None], draw) for row, look, target, draw in rows])
    height, width = images.shape[-2:]
    pixels = (resample(drawn.clamp(-1, 1), (height, width)) + 1.0) * 127.5
    return (pixels.permute(0, 2, 3, 1) + 0.5).clamp(0, 255).to(torch.uint8)
