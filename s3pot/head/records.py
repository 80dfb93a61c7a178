"""What the head is trained and evaluated on: stored image tokens and prompts of one image, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3pot.head.reweighter import PromptReweighter
from s3pot.sam.promptable import PromptableSam


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptRecord:
    """One image as the head sees it.

    Attributes:
        id: image id.
        image_tokens: (C, h, w), fp16 from a store.
        occlusion_prompts: full-grid ids, positive label.
        face_prompts: full-grid ids, negative label.
    """

    id: str
    image_tokens: Float[Tensor, "c h w"]
    occlusion_prompts: Int64[Tensor, " o"]
    face_prompts: Int64[Tensor, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptBatch:
    """Records with their prompts padded to a common length.

    Attributes:
        image_tokens: (B, C, h, w) float32.
        prompt_ids: (B, N) full-grid ids, occlusion prompts first, padding (id 0) last.
        polarity: (B, N) 1 = occlusion, 0 = face.
        prompt_valid: (B, N) False for padding.
    """

    image_tokens: Float[Tensor, "b c h w"]
    prompt_ids: Int64[Tensor, "b n"]
    polarity: Int64[Tensor, "b n"]
    prompt_valid: Bool[Tensor, "b n"]


def collate(records: Sequence[PromptRecord], device: torch.device | str = "cpu") -> PromptBatch:
    """Pad the prompts of several records into one batch.

    Raises:
        ValueError: for no records.
    """
    if not records:
        raise ValueError("no records to collate")
    ids = [torch.cat([record.occlusion_prompts, record.face_prompts]) for record in records]
    kinds = [
        torch.cat([torch.ones_like(record.occlusion_prompts), torch.zeros_like(record.face_prompts)])
        for record in records
    ]
    valid = [torch.ones(len(row), dtype=torch.bool) for row in ids]
    return PromptBatch(
        image_tokens=torch.stack([record.image_tokens for record in records]).to(device, torch.float32),
        prompt_ids=pad_sequence(ids, batch_first=True).to(device),
        polarity=pad_sequence(kinds, batch_first=True).to(device),
        prompt_valid=pad_sequence(valid, batch_first=True).to(device),
    )


def occlusion_logits(
    sam: PromptableSam, reweighter: PromptReweighter | torch.nn.Module | None, batch: PromptBatch
) -> Float[Tensor, "b hm wm"]:
    """Decode the occlusion of every image of a batch: embed, reweight (unless None), decode [S3POT 3.3].

    Returns:
        Low-resolution mask logits (B, 4h, 4w), positive = occlusion.
    """
    embeddings = sam.embed_prompts(batch.prompt_ids, batch.polarity)
    if reweighter is not None:
        embeddings = reweighter(embeddings, batch.prompt_valid)
    return sam.decode(batch.image_tokens, embeddings, batch.prompt_valid)
