"""PerSAM and PerSAM-F: segment the face of the picture after one example, the reference and its face.

After R. Zhang et al., "Personalize Segment Anything Model with One Shot" (ICLR 2024), and its code (persam.py,
persam_f.py of github.com/ZrrSkywalker/Personalize-SAM). The example is the generated reference with the completed face
as its mask; the method segments the visible face, and occlusion = full face minus that, as in the paper's table.

- PerSAM: the mean token of the example's face gives a similarity map of the picture; its best place is a positive
  point, its worst a negative one, and the map guides the decoder (`guided_decoding.py`). Then the mask is decoded again
  with itself as a prompt, and once more with its bounding box.
- PerSAM-F: three masks of different extent are mixed by two learned weights, fitted for every image on its own example
  with dice and focal loss (1,000 steps, rate 1e-3). The paper fits them on an occluded face with its true face mask;
  no truth of occlusion enters here.

Departures: points are token centres. The nano SAM knows neither boxes nor masks as prompts, for it was trained with
points alone, and has one mask: the two refinements are left out for it, and the three masks of PerSAM-F are those of a
positive point, of a positive and a negative one, and of five of each. Nothing was tuned.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from s3pot.baselines.guided_decoding import Guidance, decode_prompts
from s3pot.baselines.stored_face import StoredFace
from s3pot.metrics.prompt_quality import token_share
from s3pot.sam.preprocess import token_centers_xy
from s3pot.sam.promptable import PromptableSam

_STEPS, _RATE = 1000, 1e-3
# Numbers of positive and negative points of the masks that stand in for SAM's three.
_EXTENTS = ((1, 0), (1, 1), (5, 5))


def visible_face_persam(sam: PromptableSam, face: StoredFace) -> Bool[Tensor, "hm wm"]:
    """Segment the visible face with PerSAM; (hm, wm) bool on the decoder's grid."""
    target = _example(face).mean(dim=0)
    likeness = similarity_to(target, face.image_tokens)
    points, polarity = extreme_points(sam, likeness, face.valid, 1, 1)
    spread = (likeness - likeness[face.valid].mean()) / likeness[face.valid].std().clamp(min=1e-6)
    guidance = Guidance(target=target, similarity=spread.sigmoid() * face.valid)
    logits = decode_prompts(sam, face.image_tokens, points, polarity, guidance=guidance)[0][0]
    if not knows_masks(sam):
        return logits > 0
    logits = _best(*decode_prompts(sam, face.image_tokens, points, polarity, mask_logits=logits))
    return _boxed(sam, face, points, polarity, logits) > 0


def visible_face_persam_f(sam: PromptableSam, face: StoredFace) -> Bool[Tensor, "hm wm"]:
    """Segment the visible face with PerSAM-F; (hm, wm) bool on the decoder's grid."""
    example = _example(face)
    target = (example.amax(dim=0) + example.mean(dim=0)) / 2
    seen = _three_masks(sam, target, face.reference_tokens, face.valid)
    share = torch.from_numpy(token_share(face.full_face, sam.token_grid)).to(seen)
    wanted = functional.interpolate(share[None, None], seen.shape[1:], mode="bilinear")[0, 0] > 0.5
    weights = fit_mask_weights(seen, wanted)
    logits = torch.einsum("m,mhw->hw", weights, _three_masks(sam, target, face.image_tokens, face.valid))
    if not knows_masks(sam):
        return logits > 0
    points, polarity = extreme_points(sam, similarity_to(target, face.image_tokens), face.valid, 1, 0)
    logits = _boxed(sam, face, points, polarity, logits)
    return _boxed(sam, face, points, polarity, logits) > 0


def knows_masks(sam: PromptableSam) -> bool:
    """Say whether a SAM was trained with masks and boxes as prompts: all but nano, which has one mask token."""
    return int(sam.sam.mask_decoder.num_mask_tokens) > 1


def similarity_to(target: Float[Tensor, " c"], image_tokens: Float[Tensor, "c h w"]) -> Float[Tensor, " t"]:
    """Return the cosine of every image token with one token."""
    return functional.cosine_similarity(image_tokens.flatten(1), target[:, None], dim=0)


def extreme_points(
    sam: PromptableSam, likeness: Float[Tensor, " t"], valid: Bool[Tensor, " t"], best: int, worst: int
) -> tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]:
    """Return the places of the highest and the lowest likeness as positive and negative points of the model frame."""
    highest = likeness.masked_fill(~valid, -2.0).topk(best).indices
    lowest = likeness.masked_fill(~valid, 2.0).topk(worst, largest=False).indices
    ids = torch.cat([highest, lowest])
    polarity = torch.cat([torch.ones_like(highest), torch.zeros_like(lowest)])
    return token_centers_xy(ids[None], sam.token_grid[1], sam.patch)[0], polarity


@torch.enable_grad()
def fit_mask_weights(
    logits: Float[Tensor, "3 hm wm"], wanted: Bool[Tensor, "hm wm"], steps: int = _STEPS
) -> Float[Tensor, " 3"]:
    """Fit the weights of three masks, which sum to 1, so that their mixture is the wanted mask."""
    free = torch.full((2,), 1 / 3, device=logits.device, requires_grad=True)
    optimizer = torch.optim.AdamW([free], lr=_RATE, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    flat, truth = logits.flatten(1), wanted.flatten().to(logits.dtype)
    for _ in range(steps):
        mixed = _summing_to_one(free) @ flat
        optimizer.zero_grad()
        (_dice_loss(mixed, truth) + _focal_loss(mixed, truth)).backward()
        optimizer.step()
        schedule.step()
    return _summing_to_one(free.detach())


def _summing_to_one(free: Float[Tensor, " 2"]) -> Float[Tensor, " 3"]:
    return torch.cat([1 - free.sum(dim=0, keepdim=True), free])


def _dice_loss(logits: Float[Tensor, " p"], truth: Float[Tensor, " p"]) -> Float[Tensor, ""]:
    probability = logits.sigmoid()
    return 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)


def _focal_loss(logits: Float[Tensor, " p"], truth: Float[Tensor, " p"]) -> Float[Tensor, ""]:
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    right = torch.where(truth > 0, logits.sigmoid(), (-logits).sigmoid())
    return (torch.where(truth > 0, 0.25, 0.75) * entropy * (1 - right) ** 2).mean()


def _example(face: StoredFace) -> Float[Tensor, "f c"]:
    return face.reference_tokens.flatten(1)[:, face.face_ids.to(face.reference_tokens.device)].T


def _three_masks(
    sam: PromptableSam, target: Float[Tensor, " c"], tokens: Float[Tensor, "c h w"], valid: Bool[Tensor, " t"]
) -> Float[Tensor, "3 hm wm"]:
    likeness = similarity_to(target, tokens)
    if knows_masks(sam):
        return decode_prompts(sam, tokens, *extreme_points(sam, likeness, valid, 1, 0))[0][1:4]
    decoded = [decode_prompts(sam, tokens, *extreme_points(sam, likeness, valid, *extent))[0] for extent in _EXTENTS]
    return torch.stack([logits[0] for logits in decoded])


def _boxed(sam: PromptableSam, face: StoredFace, points: Tensor, polarity: Tensor, logits: Tensor) -> Tensor:
    """Decode again with a mask and its bounding box; an empty mask stays as it is."""
    rows, cols = (logits > 0).nonzero(as_tuple=True)
    if not len(rows):
        return logits
    scale = sam.image_size / logits.shape[0]
    box = torch.stack([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]).to(logits) * scale
    return _best(*decode_prompts(sam, face.image_tokens, points, polarity, box=box, mask_logits=logits))


def _best(logits: Float[Tensor, "m hm wm"], estimates: Float[Tensor, " m"]) -> Float[Tensor, "hm wm"]:
    return logits[1:][estimates[1:].argmax()]
