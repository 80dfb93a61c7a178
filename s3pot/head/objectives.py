"""The three self-supervised objectives on the probability at the prompts [S3POT §3.3, Eq. 1-4].

q is the sigmoid of the low-resolution mask logit, sampled bilinearly at the prompt's token centre. Per image:

    recall_occlusion  pull q up at occlusion prompts                     (Eq. 1)
    recall_face       push q down at face prompts                        (Eq. 2)
    face_penalty      push single high q at face prompts down            (Eq. 3)
    total = recall_face + recall_occlusion + lam * face_penalty          (Eq. 4)

Eq. 2 as printed, +mean log q, has no lower bound, hence the variants (`ObjectiveConfig.variant`):

    paper     as printed, log q clamped below at log epsilon in Eq. 1 and Eq. 2: a prompt at the clamp has no gradient
    bounded   Eq. 2 is the mean of -log(1 - q); the rest as printed, without a clamp
    released  the released code's linear form as we understand it: q = sigmoid(10 * logit), Eq. 1 is 1 - mean q,
              Eq. 2 is mean q, Eq. 3 is the mean of relu(q - 0.5)

Legend: B images, N prompts with padding at the end, h x w token grid, y x x low-resolution mask.
"""

from dataclasses import dataclass
from math import log
from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid

ObjectiveVariant = Literal["paper", "bounded", "released"]

_RELEASED_LOGIT_SCALE = 10.0


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Which objective, with which constants and terms.

    Attributes:
        variant: `paper` as printed, `bounded` below, or the `released` code's linear form.
        lam: Weight λ of the face penalty, at least 0; paper 0.5.
        alpha: Steepness α of the sigmoid in the face penalty, above 0; paper 10; not read by `released`.
        epsilon: Smallest q that `paper` takes the logarithm of, in (0, 1); not in the paper.
        recall_occlusion: Whether Eq. 1 counts in the total.
        recall_face: Whether Eq. 2 counts in the total.
        face_penalty: Whether Eq. 3 counts in the total.
    """

    variant: ObjectiveVariant = "paper"
    lam: float = 0.5
    alpha: float = 10.0
    epsilon: float = 1e-4
    recall_occlusion: bool = True
    recall_face: bool = True
    face_penalty: bool = True

    def __post_init__(self) -> None:
        """Check ranges and that a term is left."""
        if self.variant not in ("paper", "bounded", "released"):
            raise ValueError(f"variant must be paper, bounded or released, got {self.variant!r}")
        if not 0.0 <= self.lam < float("inf"):
            raise ValueError(f"lam must be at least 0 and finite, got {self.lam}")
        if not 0.0 < self.alpha < float("inf"):
            raise ValueError(f"alpha must be above 0 and finite, got {self.alpha}")
        if not 0.0 < self.epsilon < 1.0:
            raise ValueError(f"epsilon must lie between 0 and 1, got {self.epsilon}")
        if not (self.recall_occlusion or self.recall_face or self.face_penalty):
            raise ValueError("recall_occlusion, recall_face or face_penalty must be on, got none")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectiveTerms:
    """The objective of each image; the caller averages over images.

    The three terms are there even when they are switched off, for the log; `total` holds those that are on.

    Attributes:
        recall_occlusion: Eq. 1, 0 without occlusion prompts.
        recall_face: Eq. 2, 0 without face prompts.
        face_penalty: Eq. 3 without λ, 0 without face prompts.
        total: Eq. 4.
        empty_occlusion: Whether the image has no occlusion prompts.
        empty_face: Whether the image has no face prompts.
    """

    recall_occlusion: Float[Tensor, " b"]
    recall_face: Float[Tensor, " b"]
    face_penalty: Float[Tensor, " b"]
    total: Float[Tensor, " b"]
    empty_occlusion: Bool[Tensor, " b"]
    empty_face: Bool[Tensor, " b"]


def sample_mask_logits(
    mask_logits: Float[Tensor, "b y x"], prompt_ids: Int64[Tensor, "b n"], token_grid: tuple[int, int]
) -> Float[Tensor, "b n"]:
    """Sample mask logits bilinearly at the centres of the prompts' tokens.

    A token centre lies at (column + 0.5) * x / w - 0.5 in pixels of the mask, pixel centres being whole numbers. With
    SAM's four mask pixels per token that is the mean of the middle 2 x 2 pixels.

    Args:
        mask_logits: Low-resolution masks of the decoder.
        prompt_ids: Full-grid token ids in [0, h * w), in padding too.
        token_grid: (h, w).
    """
    height, width = mask_logits.shape[1:]
    h, w = token_grid
    top, bottom, down = _neighbours(prompt_ids // w, h, height, mask_logits.dtype)
    left, right, across = _neighbours(prompt_ids % w, w, width, mask_logits.dtype)
    flat = mask_logits.flatten(1)
    upper = torch.lerp(flat.gather(1, top * width + left), flat.gather(1, top * width + right), across)
    lower = torch.lerp(flat.gather(1, bottom * width + left), flat.gather(1, bottom * width + right), across)
    return torch.lerp(upper, lower, down)


def objective_terms(
    prompt_logits: Float[Tensor, "b n"],
    polarity: Int64[Tensor, "b n"],
    prompt_valid: Bool[Tensor, "b n"],
    config: ObjectiveConfig,
) -> ObjectiveTerms:
    """Compute the objective of every image.

    Args:
        prompt_logits: Mask logits at the prompts.
        polarity: 1 = occlusion prompt, 0 = face prompt.
        prompt_valid: False for padding, whose logits play no part.
        config: The objective.
    """
    logits = prompt_logits.masked_fill(~prompt_valid, 0)  # padding may hold anything, and NaN survives a zero weight
    occlusion = prompt_valid & (polarity == 1)
    face = prompt_valid & (polarity == 0)
    at_occlusion, at_face, high_face = _pointwise(logits, config)
    recall_occlusion = _mean_where(at_occlusion, occlusion)
    recall_face = _mean_where(at_face, face)
    face_penalty = _mean_where(high_face, face)
    total = torch.zeros_like(recall_occlusion)
    if config.recall_face:
        total = total + recall_face
    if config.recall_occlusion:
        total = total + recall_occlusion
    if config.face_penalty:
        total = total + config.lam * face_penalty
    return ObjectiveTerms(
        recall_occlusion=recall_occlusion,
        recall_face=recall_face,
        face_penalty=face_penalty,
        total=total,
        empty_occlusion=~occlusion.any(dim=1),
        empty_face=~face.any(dim=1),
    )


def _pointwise(
    logits: Float[Tensor, "b n"], config: ObjectiveConfig
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Return what Eq. 1, Eq. 2 and Eq. 3 average, for every prompt."""
    match config.variant:
        case "paper":
            log_q = logsigmoid(logits).clamp(min=log(config.epsilon))
            return -log_q, log_q, _soft_penalty(logits, config.alpha)
        case "bounded":
            # log(1 - q) = logsigmoid(-logit), exact where 1 - q has rounded to 0.
            return -logsigmoid(logits), -logsigmoid(-logits), _soft_penalty(logits, config.alpha)
        case "released":
            q = torch.sigmoid(_RELEASED_LOGIT_SCALE * logits)
            return 1 - q, q, torch.relu(q - 0.5)
        case _:
            assert_never(config.variant)


def _soft_penalty(logits: Float[Tensor, "b n"], alpha: float) -> Float[Tensor, "b n"]:
    return torch.sigmoid(alpha * (torch.sigmoid(logits) - 0.5))


def _mean_where(values: Float[Tensor, "b n"], chosen: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Return the mean of the chosen values of every row, 0 where none is chosen."""
    return values.masked_fill(~chosen, 0).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)


def _neighbours(
    cells: Int64[Tensor, "b n"], cell_count: int, pixel_count: int, dtype: torch.dtype
) -> tuple[Int64[Tensor, "b n"], Int64[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Return the pixels before and after the centre of a token along one axis, and the weight of the second."""
    # In float32 whatever the mask: half precision cannot tell half pixels apart at this range.
    centre = (cells.float() + 0.5) * (pixel_count / cell_count) - 0.5
    centre = centre.clamp(0, pixel_count - 1)  # outermost centres lie beyond the outermost pixels of a coarser mask
    before = centre.floor()
    first = before.long()
    return first, (first + 1).clamp(max=pixel_count - 1), (centre - before).to(dtype)
