"""Cosine similarity of image and reference tokens, face mask on the token grid, initial prompt [S3POT §3.2, §3.3].

Everything here runs in float32 whatever precision the tokens come in, because ties and near-ties decide prompts.

Departures: the initial prompt is sought inside the face mask only (§3.2 searches everywhere); tokens in padding take no
part. `centered` subtracts the mean token of both pictures together from every token of both: what all tokens share then
counts no more, and tokens that agree keep similarity 1 whatever covers the rest of the face.

Legend: B images, C channels, h x w token grid, full-grid id = row * w + column, t = h * w.
"""

from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

InitialPromptStrategy = Literal["most_similar", "least_similar", "random"]


def placewise_similarity(
    image_tokens: Float[Tensor, "b c h w"],
    reference_tokens: Float[Tensor, "b c h w"],
    valid: Bool[Tensor, "b h*w"] | None = None,
    *,
    centered: bool = False,
) -> Float32[Tensor, "b h*w"]:
    """Return the cosine similarity of every image token and the reference token at the same place.

    Args:
        image_tokens: Z or Z_e.
        reference_tokens: Z_r or Z_re.
        valid: False in padding, which then stays out of the mean token; None means no padding.
        centered: Subtract the mean token of the two pictures first.
    """
    with torch.autocast(image_tokens.device.type, enabled=False):
        image_bct, reference_bct = _unit_tokens(image_tokens, reference_tokens, valid, centered=centered)
        return (image_bct * reference_bct).sum(dim=1)


def similarity_matrix(
    image_tokens: Float[Tensor, "c h w"],
    reference_tokens: Float[Tensor, "c h w"],
    column_ids: Int64[Tensor, " n"],
    valid: Bool[Tensor, " h*w"] | None = None,
    *,
    centered: bool = False,
) -> Float32[Tensor, "h*w n"]:
    """Return the cosine similarity of every image token with chosen reference tokens: the matrix S of Alg. 1, line 2.

    Rows keep full-grid ids; the rows of padding tokens are there too and are left out by the matching.

    Args:
        image_tokens: Z_e of one image.
        reference_tokens: Z_re of its reference.
        column_ids: Full-grid ids of the reference tokens that become columns.
        valid: False in padding, which then stays out of the mean token; None means no padding.
        centered: Subtract the mean token of the two pictures first.
    """
    valid_bt = None if valid is None else valid[None]
    with torch.autocast(image_tokens.device.type, enabled=False):
        image_bct, reference_bct = _unit_tokens(image_tokens[None], reference_tokens[None], valid_bt, centered=centered)
        # One column after the other in memory, the order in which the matching reads them.
        return (reference_bct[0][:, column_ids].T @ image_bct[0]).T


def face_tokens(face_mask: Bool[Tensor, "b y x"], token_grid: tuple[int, int]) -> Bool[Tensor, "b t"]:
    """Return which tokens are face: more than half of the pixels of their cell are.

    Args:
        face_mask: M_f in the model frame, True = face.
        token_grid: (h, w); both must divide the frame.

    Raises:
        ValueError: When the grid does not divide the frame.
    """
    batch, height, width = face_mask.shape
    h, w = token_grid
    if height % h or width % w:
        raise ValueError(f"token grid {h} x {w} does not divide a face mask of {height} x {width} pixels")
    cells = face_mask.reshape(batch, h, height // h, w, width // w)
    face_pixels = cells.sum(dim=(2, 4))  # integers, so that exactly half is told from more than half
    return (2 * face_pixels > (height // h) * (width // w)).reshape(batch, h * w)


def initial_prompt(
    similarity: Float32[Tensor, " t"],
    face_tokens: Bool[Tensor, " t"],
    valid: Bool[Tensor, " t"],
    strategy: InitialPromptStrategy = "most_similar",
    generator: torch.Generator | None = None,
) -> int | None:
    """Choose the initial prompt p_i among the face tokens; the lowest id wins a tie.

    Args:
        similarity: Place-wise similarity of image and reference tokens.
        face_tokens: M_f on the token grid.
        valid: False in padding.
        strategy: `most_similar` as in the paper; the others serve its ablation.
        generator: Source of the draw, needed by `random` only.

    Returns:
        A full-grid id, or None when there is no face token outside padding.

    Raises:
        ValueError: When a similarity to choose from is not finite, or `random` comes without a generator.
    """
    candidates = (face_tokens & valid).nonzero().flatten()
    if not len(candidates):
        return None
    values = similarity[candidates]
    if not bool(values.isfinite().all()):
        raise ValueError("similarity of face tokens must be finite, got NaN or infinity")
    match strategy:
        case "most_similar":
            place = values.argmax()
        case "least_similar":
            place = values.argmin()
        case "random":
            if generator is None:
                raise ValueError("strategy 'random' needs a generator")
            place = torch.randint(len(candidates), (), generator=generator, device=generator.device)
        case _:
            assert_never(strategy)
    return int(candidates[int(place)])


def _unit_tokens(
    image_tokens: Float[Tensor, "b c h w"],
    reference_tokens: Float[Tensor, "b c h w"],
    valid: Bool[Tensor, "b h*w"] | None,
    *,
    centered: bool,
) -> tuple[Float32[Tensor, "b c h*w"], Float32[Tensor, "b c h*w"]]:
    """Flatten the grid and scale every token to length 1; a zero token stays zero and is similar to nothing."""
    image, reference = image_tokens.float().flatten(2), reference_tokens.float().flatten(2)
    if centered:
        # Over the places outside padding; `where`, because padding may hold anything and NaN survives a zero weight.
        counted = torch.ones_like(image[:, 0], dtype=torch.bool) if valid is None else valid
        total = torch.where(counted[:, None], image + reference, 0).sum(dim=2, keepdim=True)
        mean = total / (2 * counted.sum(dim=1).clamp(min=1))[:, None, None]
        image, reference = image - mean, reference - mean
    return torch.nn.functional.normalize(image, dim=1), torch.nn.functional.normalize(reference, dim=1)
