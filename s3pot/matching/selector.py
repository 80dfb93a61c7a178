"""Prompt selection: from enhanced tokens of image and reference to occlusion and face prompts [S3POT §3.3].

`greedy` is the paper's Alg. 1; `threshold` and `otsu` are the alternatives of its Tab. 2. Every selector can work on
tokens with the mean token subtracted, so that none is a straw man.

Legend: B images, C channels, h x w token grid, full-grid id = row * w + column.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from s3pot.matching.greedy import greedy_match, split_matches
from s3pot.matching.similarity import placewise_similarity, similarity_matrix
from s3pot.matching.threshold import otsu_prompts, threshold_prompts

SelectorKind = Literal["greedy", "threshold", "otsu"]


@dataclass(frozen=True, kw_only=True)
class SelectorConfig:
    """How prompts are selected.

    Attributes:
        kind: `greedy` matching (paper default), fixed `threshold`, or `otsu` threshold per image.
        tau: Cosine similarity in [-1, 1] below which a face token is an occlusion prompt; `threshold` only, paper 0.5.
        centered: Subtract the mean token of the two pictures before the similarity; the paper does not.
    """

    kind: SelectorKind = "greedy"
    tau: float = 0.5
    centered: bool = False

    def __post_init__(self) -> None:
        """Check kind and threshold."""
        if self.kind not in ("greedy", "threshold", "otsu"):
            raise ValueError(f"kind must be greedy, threshold or otsu, got {self.kind!r}")
        if not -1.0 <= self.tau <= 1.0:
            raise ValueError(f"tau must lie in [-1, 1], got {self.tau}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """Prompts of one image, sorted full-grid ids; together they are the face tokens outside padding.

    Attributes:
        occlusion_prompts: P_O, positive label.
        face_prompts: P_N, negative label.
    """

    occlusion_prompts: Int64[Tensor, " o"]
    face_prompts: Int64[Tensor, " n"]


def select_prompts(
    enhanced_tokens: Float[Tensor, "b c h w"],
    enhanced_reference_tokens: Float[Tensor, "b c h w"],
    face_tokens: Bool[Tensor, "b h*w"],
    valid: Bool[Tensor, "b h*w"],
    config: SelectorConfig,
) -> list[Prompts]:
    """Select the prompts of every image of a batch.

    One image after the other: a batched matrix product may round differently from a single one, and a near-tie would
    then make prompts depend on the company an image is in.

    Args:
        enhanced_tokens: Z_e.
        enhanced_reference_tokens: Z_re.
        face_tokens: M_f on the token grid; an image without face tokens gets two empty sets.
        valid: False in padding, which takes no part.
        config: The selector.

    Raises:
        ValueError: When tokens that take part hold NaN or infinity.
    """
    return [
        _select_one(enhanced_tokens[i], enhanced_reference_tokens[i], face_tokens[i] & valid[i], valid[i], config)
        for i in range(len(enhanced_tokens))
    ]


def _select_one(
    tokens: Float[Tensor, "c h w"],
    reference_tokens: Float[Tensor, "c h w"],
    face: Bool[Tensor, " h*w"],
    valid: Bool[Tensor, " h*w"],
    config: SelectorConfig,
) -> Prompts:
    if config.kind == "greedy":
        columns = face.nonzero().flatten()
        scores = similarity_matrix(tokens, reference_tokens, columns, valid, centered=config.centered)
        occlusion, visible_face = split_matches(greedy_match(scores[None], valid[None])[0], face)
        return Prompts(occlusion_prompts=occlusion, face_prompts=visible_face)
    similarity = placewise_similarity(tokens[None], reference_tokens[None], valid[None], centered=config.centered)[0]
    match config.kind:
        case "threshold":
            occlusion, visible_face = threshold_prompts(similarity, face, config.tau)
        case "otsu":
            occlusion, visible_face = otsu_prompts(similarity, face)
        case _:
            assert_never(config.kind)
    return Prompts(occlusion_prompts=occlusion, face_prompts=visible_face)
