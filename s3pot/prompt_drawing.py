"""From tokens to prompts: initial prompt, feature enhancement, selection [S3POT 3.2, 3.3].

All of the frozen prefix that comes after the encoder, so that other prompts can be drawn from stored tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from s3pot.matching.selector import select_prompts
from s3pot.matching.similarity import face_tokens, initial_prompt, placewise_similarity
from s3pot.padding import stack_padded
from s3pot.prefix_config import PrefixConfig
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import torch_generator

Status = Literal["ok", "no_face", "no_occlusion_prompts", "no_face_prompts"]
"""Whether an image has prompts, or what is missing; an empty prompt set is a result, not an error [design 5.13]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPrompts:
    """The prompts of one image and how they came about; fields as in `PrefixResult`."""

    status: Status
    similarity: Float[Tensor, " t"]
    initial_prompt: int | None
    occlusion_prompts: Int64[Tensor, " o"]
    face_prompts: Int64[Tensor, " n"]


@torch.no_grad()
def draw_prompts(
    sam: PromptableSam,
    config: PrefixConfig,
    ids: Sequence[str],
    face_masks: Sequence[Bool[np.ndarray, "_ _"]],
    image_tokens: Float[Tensor, "b c h w"],
    reference_tokens: Float[Tensor, "b c h w"],
    valid: Bool[Tensor, "b h*w"],
) -> list[DrawnPrompts]:
    """Draw the prompts from tokens: all that comes after the encoder.

    Args:
        sam: promptable SAM.
        config: what to do.
        ids: image ids.
        face_masks: (H, W) bool M_f, aligned frame, of one long side.
        image_tokens: Z, on the SAM's device.
        reference_tokens: Z_r, there too.
        valid: False where a token lies in padding.
    """
    size = max(face_masks[0].shape)
    in_face = face_tokens(stack_padded(face_masks, size, sam.device), sam.token_grid) & valid
    raw = placewise_similarity(image_tokens, reference_tokens, valid)
    initial = [
        initial_prompt(
            raw[row],
            in_face[row],
            valid[row],
            config.initial_prompt,
            torch_generator(config.seed, "initial_prompt", image_id),
        )
        for row, image_id in enumerate(ids)
    ]
    pair = (image_tokens, reference_tokens)
    if config.enhances:
        points = torch.tensor([point or 0 for point in initial], device=image_tokens.device)
        pair = (sam.enhance(image_tokens, points), sam.enhance(reference_tokens, points))
    similarity = placewise_similarity(*pair, valid)
    selected = select_prompts(*pair, in_face, valid, config.selector)
    drawn = []
    for row, (image_id, prompts) in enumerate(zip(ids, selected, strict=True)):
        occlusion = _keep_some(prompts.occlusion_prompts.cpu(), config, valid.shape[1], image_id)
        face = _keep_some(prompts.face_prompts.cpu(), config, valid.shape[1], image_id)
        drawn.append(
            DrawnPrompts(
                status=_status(initial[row], occlusion, face),
                similarity=similarity[row].cpu(),
                initial_prompt=initial[row],
                occlusion_prompts=occlusion,
                face_prompts=face,
            )
        )
    return drawn


def _keep_some(ids: Int64[Tensor, " p"], config: PrefixConfig, tokens: int, image_id: str) -> Int64[Tensor, " k"]:
    """Keep at most `most_prompts`, those whose places come first in an order of all places that is drawn per image.

    So fewer are always a part of more, and a prompt that changes sides takes no other along.
    """
    if config.most_prompts is None or len(ids) <= config.most_prompts:
        return ids
    rank = torch.randperm(tokens, generator=torch_generator(config.seed, "most_prompts", image_id))
    return ids[rank[ids].argsort()[: config.most_prompts]].sort().values


def _status(initial: int | None, occlusion: Tensor, face: Tensor) -> Status:
    if initial is None:
        return "no_face"
    if occlusion.numel() == 0:
        return "no_occlusion_prompts"
    return "ok" if face.numel() else "no_face_prompts"
