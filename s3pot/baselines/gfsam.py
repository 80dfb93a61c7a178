"""GF-SAM's matching without training, on SAM's own tokens: the visible face by positive and negative matching.

After A. Zhang et al., "Bridge the Points: Graph-based Few-shot Segment Anything Semantically" (NeurIPS 2024), and its
code (github.com/ANDYZAQ/GF-SAM, matcher/GFSAM.py), which goes on from Matcher (Y. Liu et al., ICLR 2024). The one-shot
example is the generated reference with the completed face as its mask: the same person in the same pose, unoccluded,
the kindest example there is. The method segments the face of the picture, and occlusion = full face minus that.

    dense matching: similarity of every image token with the face and with the rest of the reference
    points: up to 64 tokens that are more like the face than like the rest
    a mask for every point; masks that hold each other's points form one group
    in each group masks are added, the most face-like first, as long as what they add is mostly face

Departures: SAM's tokens in the place of DINOv2's, for no other network is in the box; token centres as points, and at
most 64 of them instead of 128 (every one costs a decoding); the last gating of the original (points that belong to
another group than they fall in) is left out. Nothing is trained or tuned.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import normalize

from s3pot.baselines.click_masks import click_masks, tokens_of_masks
from s3pot.baselines.stored_face import StoredFace
from s3pot.metrics.prompt_quality import token_share
from s3pot.sam.promptable import PromptableSam

_MOST_POINTS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """How alike the image tokens are to the example; all (t,).

    Attributes:
        points: full-grid ids that are prompted.
        margin: how much more a token is like the face of the reference than like the rest; above 0 it counts as face.
    """

    points: Int64[Tensor, " p"]
    margin: Float[Tensor, " t"]


def visible_face_gfsam(sam: PromptableSam, face: StoredFace) -> Bool[Tensor, "hm wm"]:
    """Segment the visible face; (hm, wm) bool on the decoder's grid."""
    share = torch.from_numpy(token_share(face.full_face, sam.token_grid)).flatten().to(face.image_tokens)
    found = match(face.image_tokens, face.reference_tokens, share, face.valid)
    masks = click_masks(sam, face.image_tokens, found.points)
    if not len(masks):
        return torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    chosen = grown(tokens_of_masks(masks, sam.token_grid), found)
    return (masks[chosen] > 0).any(dim=0)


def match(
    image_tokens: Float[Tensor, "c h w"],
    reference_tokens: Float[Tensor, "c h w"],
    share: Float[Tensor, " t"],
    valid: Bool[Tensor, " t"],
) -> Matches:
    """Match the tokens of the image with face and rest of the reference.

    Args:
        image_tokens: of the picture.
        reference_tokens: of the reference.
        share: of each token's cell that is face in the reference, in [0, 1].
        valid: False in padding.
    """
    image, reference = (normalize(tokens.flatten(1), dim=0) for tokens in (image_tokens, reference_tokens))
    share, rest = share * valid, (1 - share) * valid
    similarity = image.T @ reference
    to_face = similarity @ share / share.sum().clamp(min=1e-6)
    to_rest = similarity @ rest / rest.sum().clamp(min=1e-6)
    alike = _stretched(to_face * (similarity * share).amax(dim=1), valid)
    wanted = torch.where(valid & (_stretched(to_rest, valid) <= alike), alike, 0)
    number = min(max(int(wanted.sum()), int(wanted.any())), _MOST_POINTS)
    middle = (to_face[valid].max() + to_face[valid].min()) / 2
    return Matches(
        points=wanted.topk(number).indices.sort().values,
        margin=to_face**2 - to_rest * middle,
    )


def grown(covered: Float[Tensor, "n t"], found: Matches) -> Int64[Tensor, " k"]:
    """Choose masks: in every group the most face-like first, as long as what one adds is mostly face.

    Args:
        covered: share of each token's cell that the mask of each point covers.
        found: the matching.

    Returns:
        Places of the chosen masks; without any the most face-like one alone.
    """
    holds = (covered[:, found.points] > 0.5).cpu().numpy()
    _, groups = connected_components(holds, directed=True, connection="weak")
    score = covered @ found.margin / covered.sum(dim=1).clamp(min=1e-6)
    positive = found.margin > 0
    chosen = []
    inner = {group: torch.zeros_like(covered[0]) for group in set(groups.tolist())}
    for place in score.argsort(descending=True, stable=True).tolist():
        added = covered[place] * (1 - inner[int(groups[place])])
        if (added * positive).sum() > (added * ~positive).sum():
            inner[int(groups[place])] += added
            chosen.append(place)
    return torch.tensor(chosen or [int(score.argmax())], device=covered.device)


def _stretched(values: Float[Tensor, " t"], valid: Bool[Tensor, " t"]) -> Float[Tensor, " t"]:
    low, high = values[valid].min(), values[valid].max()
    return (values - low) / (high - low + 1e-6)
