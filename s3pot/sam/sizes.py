"""The SAM sizes as data, and how each is built from `segment_anything` classes.

`build_sam_*` of segment_anything calls `torch.load` itself when given a checkpoint, so networks are always built empty
and weights are loaded by us (`weights_only=True`, or safetensors).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from segment_anything import build_sam_vit_b, build_sam_vit_h, build_sam_vit_l
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from s3pot.sam.efficient_attention import use_efficient_attention
from s3pot.sam.nano_encoder import NanoImageEncoder

SamName = Literal["nano", "vit_b", "vit_l", "vit_h"]


@dataclass(frozen=True, kw_only=True)
class SamSize:
    """Dimensions of one SAM.

    Attributes:
        image_size: side of the model frame in pixels.
        patch: pixels per token.
        embed_dim: channels C of tokens and prompts.
    """

    image_size: int
    patch: int
    embed_dim: int


SAM_SIZES: dict[str, SamSize] = {
    "nano": SamSize(image_size=256, patch=8, embed_dim=128),
    "vit_b": SamSize(image_size=1024, patch=16, embed_dim=256),
    "vit_l": SamSize(image_size=1024, patch=16, embed_dim=256),
    "vit_h": SamSize(image_size=1024, patch=16, embed_dim=256),
}


def build_sam(name: SamName, *, seed: int = 0) -> Sam:
    """Build a SAM with random weights (a fixed seed), in eval mode.

    The official ones get attention that keeps no matrix; names, shapes and numbers are those of the stock classes.

    Args:
        name: one of `SAM_SIZES`.
        seed: of the random initial weights; the caller's random state is left as it was.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in SAM_SIZES:
        raise ValueError(f"unknown SAM {name!r}: choose one of {', '.join(get_args(SamName))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match name:
            case "nano":
                return _build_nano(SAM_SIZES["nano"])
            case "vit_b":
                return use_efficient_attention(build_sam_vit_b())
            case "vit_l":
                return use_efficient_attention(build_sam_vit_l())
            case "vit_h":
                return use_efficient_attention(build_sam_vit_h())


def _build_nano(size: SamSize) -> Sam:
    grid = size.image_size // size.patch
    sam = Sam(
        image_encoder=NanoImageEncoder(size.image_size, size.embed_dim),
        prompt_encoder=PromptEncoder(
            embed_dim=size.embed_dim,
            image_embedding_size=(grid, grid),
            input_image_size=(size.image_size, size.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            # One mask token: the chain decodes mask token 0 only [design 5.7], and the three ambiguity masks of stock
            # SAM would be untrained queries in the feature enhancement.
            num_multimask_outputs=0,
            transformer=TwoWayTransformer(depth=2, embedding_dim=size.embed_dim, mlp_dim=512, num_heads=4),
            transformer_dim=size.embed_dim,
            iou_head_depth=3,
            iou_head_hidden_dim=size.embed_dim,
        ),
    )
    return sam.eval()
