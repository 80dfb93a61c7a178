"""From prompts to occlusion masks in the aligned frame, with an image-level score [design 5.7, 5.12, 5.13]."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import nn

from s3pot.head.records import PromptRecord, collate, occlusion_logits
from s3pot.sam.preprocess import mask_to_picture
from s3pot.sam.promptable import PromptableSam


@dataclass(frozen=True, kw_only=True, eq=False)
class OcclusionPrediction:
    """Occlusion of one aligned picture.

    Attributes:
        probability: (H, W) float32 in [0, 1], not clipped to the face; 0 everywhere without occlusion prompts.
        occlusion: (H, W) bool, probability above one half, not clipped to the face.
        score: share of the face mask that is occluded, weighted by probability, in [0, 1]: 0 = nothing found.
    """

    probability: Float32[np.ndarray, "h w"]
    occlusion: Bool[np.ndarray, "h w"]
    score: float


def predict_occlusion(
    sam: PromptableSam,
    reweighter: nn.Module | None,
    records: Sequence[PromptRecord],
    face_masks: Sequence[Bool[np.ndarray, "_ _"]],
) -> list[OcclusionPrediction]:
    """Decode the occlusion of several images in one batch.

    An image without occlusion prompts is not decoded: without a positive prompt a decoder segments something all the
    same.

    Args:
        sam: decoder.
        reweighter: trained head, or None for the prompts as they are.
        records: image tokens and prompts.
        face_masks: (H, W) bool predicted face mask of each aligned picture; gives the frame, too.

    Returns:
        One prediction per record, in order.
    """
    predictions = [_nothing(mask) for _, mask in zip(records, face_masks, strict=True)]
    prompted = [row for row, record in enumerate(records) if record.occlusion_prompts.numel()]
    if not prompted:
        return predictions
    with torch.no_grad():
        batch = collate([records[row] for row in prompted], sam.device)
        mask_logits = occlusion_logits(sam, reweighter, batch)
        for place, row in enumerate(prompted):
            size = (face_masks[row].shape[0], face_masks[row].shape[1])
            logits = mask_to_picture(mask_logits[place : place + 1], size, sam.image_size)
            probability = logits[0].sigmoid().float().cpu().numpy()
            predictions[row] = _prediction(probability, face_masks[row])
    return predictions


def _prediction(probability: np.ndarray, face_mask: np.ndarray) -> OcclusionPrediction:
    occlusion = probability > 0.5
    inside = occlusion & face_mask
    score = float(probability[inside].sum() / max(1, int(face_mask.sum())))
    return OcclusionPrediction(probability=probability, occlusion=occlusion, score=score)


def _nothing(face_mask: np.ndarray) -> OcclusionPrediction:
    empty = np.zeros(face_mask.shape, dtype=np.float32)
    return OcclusionPrediction(probability=empty, occlusion=empty > 0.5, score=0.0)
