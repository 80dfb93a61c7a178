"""Points on targets, and a SAM's answer to them.

Points are drawn uniformly from pixels, without replacement while there are enough. (x, y) are pixels of the picture as
stock SAM takes them: it adds 0.5 to each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from s3pot.sam.preprocess import mask_to_picture
from s3pot.sam.promptable import PromptableSam
from s3pot.scorecard.targets import Target, TargetPicture

_IMAGES_AT_ONCE, _SETS_AT_ONCE = 8, 16


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptSet:
    """One question to a SAM.

    Attributes:
        picture: place of the picture in the list.
        measure: which number it belongs to.
        target: what is asked for.
        points_xy: (N, 2) float32 in pixels of the picture.
        polarity: (N,) int64, 1 = the thing, 0 = not it.
    """

    picture: int
    measure: str
    target: Target
    points_xy: Float32[np.ndarray, "n 2"]
    polarity: Int64[np.ndarray, " n"]


def draw_points(
    target: Target, positives: int, negatives: int, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
    """Draw points inside the target and inside its contrast; no negatives where there is no contrast.

    Returns:
        (N, 2) float32 (x, y), positives first, and (N,) int64 polarity.
    """
    inside = _pixels(target.positives, positives, rng)
    outside = _pixels(target.contrast, negatives, rng)
    polarity = np.concatenate([np.ones(len(inside), dtype=np.int64), np.zeros(len(outside), dtype=np.int64)])
    return np.concatenate([inside, outside]), polarity


def split_by_area(target: Target, number: int) -> tuple[int, int]:
    """Split a number of points as tokens of the face fall: by area of target and contrast, at least one of each."""
    share = target.positives.sum() / max(1, target.positives.sum() + target.contrast.sum())
    positives = int(np.clip(round(number * float(share)), 1, number - 1))
    return positives, number - positives


def flip_polarity(polarity: Int64[np.ndarray, " n"], share: float, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """Give `share` of the points, rounded to whole points and chosen at random, the wrong polarity."""
    wrong = rng.permutation(len(polarity))[: round(share * len(polarity))]
    flipped = polarity.copy()
    flipped[wrong] = 1 - flipped[wrong]
    return flipped


def _pixels(where: Bool[np.ndarray, "h w"], number: int, rng: np.random.Generator) -> Float32[np.ndarray, "n 2"]:
    rows, cols = np.nonzero(where)
    if rows.size == 0:
        return np.empty((0, 2), dtype=np.float32)
    drawn = rng.choice(rows.size, size=number, replace=number > rows.size)
    return np.stack([cols[drawn], rows[drawn]], axis=1).astype(np.float32)


def answer(
    sam: PromptableSam, pictures: Sequence[TargetPicture], prompt_sets: Sequence[PromptSet]
) -> list[Bool[np.ndarray, "_ _"]]:
    """Return SAM's mask (H, W) bool for every prompt set, in order; each picture is encoded once."""
    masks: list[np.ndarray] = [np.empty((0, 0), dtype=bool)] * len(prompt_sets)
    by_picture: dict[int, list[int]] = {}
    for place, prompt_set in enumerate(prompt_sets):
        by_picture.setdefault(prompt_set.picture, []).append(place)
    asked = sorted(by_picture)
    for first in range(0, len(asked), _IMAGES_AT_ONCE):
        batch = asked[first : first + _IMAGES_AT_ONCE]
        tokens, _ = sam.encode([pictures[picture].image for picture in batch])
        # Sets of like length together: little padding.
        places = sorted(
            (p for picture in batch for p in by_picture[picture]), key=lambda p: len(prompt_sets[p].polarity)
        )
        for start in range(0, len(places), _SETS_AT_ONCE):
            chunk = places[start : start + _SETS_AT_ONCE]
            rows = [batch.index(prompt_sets[place].picture) for place in chunk]
            decoded = _decode(sam, tokens[rows], [prompt_sets[place] for place in chunk], pictures)
            for place, mask in zip(chunk, decoded, strict=True):
                masks[place] = mask
    return masks


@torch.no_grad()
def _decode(
    sam: PromptableSam, tokens: Tensor, prompt_sets: Sequence[PromptSet], pictures: Sequence[TargetPicture]
) -> list[Bool[np.ndarray, "_ _"]]:
    sizes = [pictures[prompt_set.picture].image.shape[:2] for prompt_set in prompt_sets]
    points = [
        (torch.from_numpy(prompt_set.points_xy) + 0.5) * (sam.image_size / max(size)) - 0.5
        for prompt_set, size in zip(prompt_sets, sizes, strict=True)
    ]
    polarity = [torch.from_numpy(prompt_set.polarity) for prompt_set in prompt_sets]
    valid = [torch.ones(len(kinds), dtype=torch.bool) for kinds in polarity]
    padded = [pad_sequence(rows, batch_first=True).to(sam.device) for rows in (points, polarity, valid)]
    logits = sam.decode(tokens, sam.embed_points(padded[0], padded[1]), padded[2])
    return [
        (mask_to_picture(logits[row : row + 1], (size[0], size[1]), sam.image_size)[0] > 0).cpu().numpy()
        for row, size in enumerate(sizes)
    ]
