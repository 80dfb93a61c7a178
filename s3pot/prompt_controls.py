"""Other prompts for the same image: the controls and the upper bound that stand beside every headline [design 6].

All split the face tokens of the record, which are its occlusion and face prompts together, in another way.
"""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from s3pot.head.records import PromptRecord
from s3pot.metrics.mask_checks import BoolImage
from s3pot.metrics.prompt_quality import token_share
from s3pot.seeding import torch_generator


def random_prompts(record: PromptRecord, seed: int) -> PromptRecord:
    """Draw as many occlusion prompts as there are, anywhere in the face; by seed and image id."""
    in_face = torch.cat([record.occlusion_prompts, record.face_prompts])
    order = torch.randperm(len(in_face), generator=torch_generator(seed, "ladder/random", record.id))
    return _split(record, in_face[order[: len(record.occlusion_prompts)]])


def other_prompts(record: PromptRecord, other: PromptRecord) -> PromptRecord:
    """Take the occlusion prompts of another image, where they fall into this face."""
    return _split(record, other.occlusion_prompts)


def true_prompts(record: PromptRecord, truth: BoolImage, token_grid: tuple[int, int]) -> PromptRecord:
    """Take the face tokens that the truth covers by more than half.

    Args:
        record: of the image.
        truth: (H, W) bool true occlusion, aligned frame.
        token_grid: (h, w).
    """
    covered: Bool[Tensor, " t"] = torch.from_numpy(token_share(truth, token_grid)).flatten() > 0.5
    return _split(record, covered.nonzero().flatten())


def _split(record: PromptRecord, occlusion: Int64[Tensor, " o"]) -> PromptRecord:
    in_face = torch.cat([record.occlusion_prompts, record.face_prompts]).sort().values
    chosen = torch.isin(in_face, occlusion)
    return PromptRecord(
        id=record.id,
        image_tokens=record.image_tokens,
        occlusion_prompts=in_face[chosen],
        face_prompts=in_face[~chosen],
    )
