"""SAM's mask for every one of many single clicks on one picture: mask proposals without a person."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from s3pot.sam.promptable import PromptableSam

# Small batches of decodings stay in the cache of a CPU: twice as fast.
_AT_ONCE_CPU, _AT_ONCE_GPU = 4, 64


@torch.no_grad()
def click_masks(
    sam: PromptableSam, image_tokens: Float[Tensor, "c h w"], token_ids: Int64[Tensor, " n"]
) -> Float[Tensor, "n hm wm"]:
    """Decode mask token 0 for each token centre as the only, positive prompt; hm = 4h, wm = 4w logits.

    Args:
        sam: decoder.
        image_tokens: of one picture.
        token_ids: full-grid ids that are clicked on.
    """
    _, rows, cols = image_tokens.shape
    at_once = _AT_ONCE_CPU if image_tokens.device.type == "cpu" else _AT_ONCE_GPU
    decoded = [image_tokens.new_empty(0, 4 * rows, 4 * cols)]
    for ids in token_ids.to(image_tokens.device).split(at_once):
        prompts = sam.embed_prompts(ids[:, None], torch.ones_like(ids)[:, None])
        valid = torch.ones(len(ids), 1, dtype=torch.bool, device=ids.device)
        decoded.append(sam.decode(image_tokens.expand(len(ids), -1, -1, -1), prompts, valid))
    return torch.cat(decoded)


def tokens_of_masks(mask_logits: Float[Tensor, "n hm wm"], token_grid: tuple[int, int]) -> Float[Tensor, "n t"]:
    """Return the share of every token's cell that each mask covers, in [0, 1]."""
    covered = torch.nn.functional.adaptive_avg_pool2d((mask_logits > 0).float()[:, None], token_grid)
    return covered[:, 0].flatten(1)
