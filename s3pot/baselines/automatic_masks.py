"""SAM automatic masks ranked by contrast: propose by a grid of clicks, keep what differs most from the reference.

After `SamAutomaticMaskGenerator` of segment_anything (A. Kirillov et al., ICCV 2023): a grid of single clicks, masks
filtered by stability, duplicates removed. The generator itself cannot be used: it takes the three masks of the
multimask output, which the nano SAM has not. Departures: clicks inside the face alone, on 16 x 16 places of the
picture (time); mask token 0; duplicates by the IoU of masks rather than of boxes; no filter by predicted IoU.

A mask's contrast is the mean dissimilarity of image and reference token in it minus that of the rest of the face. Masks
of a contrast above 0.01 are joined in the order of contrast, as many as make the split of the face the best one by
Otsu's criterion (the variance between the two classes). Least contrast and least stability were chosen on dev with
truth, on every second picture and for the nano SAM: of 0.4, 0.6, 0.8, 0.9 and 0.95, and of 0 to 0.4, the pair with the
highest IoU among those that leave clean faces alone. Without a least contrast IoU is 0.02 higher, and two thirds of a
clean face are marked. Tokens of another SAM may ask for another contrast.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from s3pot.baselines.click_masks import click_masks, tokens_of_masks
from s3pot.baselines.difference import dissimilarity
from s3pot.baselines.stored_face import StoredFace
from s3pot.sam.promptable import PromptableSam

GRID = 16
STABILITY, CONTRAST = 0.4, 0.01
# Of logits, as segment_anything has it: a stable mask hardly changes between thresholds -1 and 1.
_STABILITY_OFFSET = 1.0
_DUPLICATE_IOU = 0.7


def contrasting_masks(sam: PromptableSam, face: StoredFace) -> Bool[Tensor, "hm wm"]:
    """Join the automatic masks that contrast most with the reference.

    Returns:
        (hm, wm) bool on the decoder's grid; all False without any stable mask.
    """
    return joined_masks(face, propose(sam, face))


def propose(sam: PromptableSam, face: StoredFace, grid: int = GRID) -> Float[Tensor, "n hm wm"]:
    """Return the logits of the masks of a grid of clicks inside the face, so many across the picture."""
    rows, cols = sam.token_grid
    step = max(1, rows // grid)
    ids = face.face_ids
    clicked = ids[((ids // cols) % step == step // 2) & ((ids % cols) % step == step // 2)]
    return click_masks(sam, face.image_tokens, clicked)


def joined_masks(face: StoredFace, logits: Float[Tensor, "n hm wm"]) -> Bool[Tensor, "hm wm"]:
    """Join those of the proposed masks that contrast most with the reference.

    Args:
        face: the face.
        logits: of the proposals.
    """
    logits = logits[stability_score(logits) >= STABILITY]
    rows, cols = face.image_tokens.shape[1:]
    in_face = tokens_of_masks(logits, (rows, cols))[:, face.face_ids] > 0.5
    values = dissimilarity(face)[face.face_ids]
    sensible = in_face.any(dim=1) & ~in_face.all(dim=1)
    masks, in_face = logits[sensible] > 0, in_face[sensible]
    contrast = contrasts(values, in_face)
    masks, in_face, contrast = (entries[contrast > CONTRAST] for entries in (masks, in_face, contrast))
    if not len(masks):
        return torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
    order = _without_duplicates(masks, contrast.argsort(descending=True, stable=True))
    return masks[order[: best_number(values, in_face[order])]].any(dim=0)


def stability_score(logits: Float[Tensor, "n hm wm"]) -> Float[Tensor, " n"]:
    """Return the IoU of each mask cut at logit 1 and at logit -1; 0 of an empty one."""
    inner = (logits > _STABILITY_OFFSET).flatten(1).sum(dim=1)
    outer = (logits > -_STABILITY_OFFSET).flatten(1).sum(dim=1)
    return inner / outer.clamp(min=1)


def contrasts(values: Float[Tensor, " f"], in_face: Bool[Tensor, "n f"]) -> Float[Tensor, " n"]:
    """Return the mean of the values inside each mask minus the mean outside.

    Args:
        values: dissimilarity of the face tokens.
        in_face: which of them each mask covers; some and not all.
    """
    inside = in_face.to(values.dtype)
    outside = 1 - inside
    return (inside @ values) / inside.sum(dim=1) - (outside @ values) / outside.sum(dim=1)


def best_number(values: Float[Tensor, " f"], ranked: Bool[Tensor, "n f"]) -> int:
    """Return how many of the ranked masks to join, 1 or more: the union that splits the values best.

    Args:
        values: dissimilarity of the face tokens.
        ranked: the face tokens of each mask, in the order of joining.
    """
    union = (ranked.cumsum(dim=0) > 0).to(values.dtype)
    share = union.mean(dim=1)
    inside = (union @ values) / union.sum(dim=1)
    outside = ((1 - union) @ values) / (1 - union).sum(dim=1).clamp(min=1)
    return int((share * (1 - share) * (inside - outside) ** 2).argmax()) + 1


def _without_duplicates(masks: Bool[Tensor, "n hm wm"], order: Tensor) -> Tensor:
    """Return the order without masks that repeat an earlier one."""
    flat = masks.flatten(1).float()
    together = flat @ flat.T
    areas = flat.sum(dim=1)
    iou = together / (areas[:, None] + areas[None] - together).clamp(min=1)
    kept: list[int] = []
    for place in order.tolist():
        if not kept or float(iou[place, kept].max()) < _DUPLICATE_IOU:
            kept.append(place)
    return torch.tensor(kept, device=masks.device)
