"""What the nano SAM is asked to segment, and the clicks it is asked with.

An occluder is one kind of target among visible face, face parts, hair, clothes and natural segments [design 6]. Clicks
are placed as the chain places them: often at token centres, from one to a few hundred, partly of the wrong polarity.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from s3pot.parsing.classes import CLASSES
from s3pot.pretrain.samples import Sample

Regime = Literal["single", "few", "some", "dense"]
# Most prompts of one set, by regime; one regime a step keeps the padding small.
SET_SIZES: dict[Regime, int] = {"single": 2, "few": 6, "some": 32, "dense": 256}
_PARTS = ("nose", "lip", "eyes", "eyebrows", "mouth")
_SURROUND = ("hair", "below_face", "background")
_MIN_AREA = 30


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to segment.

    Attributes:
        inside: (S, S) bool, the thing.
        contrast: (S, S) bool, where most clicks of the other polarity go.
        kind: occluder, visible_face, part, surround or segment.
    """

    inside: Bool[np.ndarray, "s s"]
    contrast: Bool[np.ndarray, "s s"]
    kind: str


def face_targets(sample: Sample, number: int, rng: np.random.Generator) -> list[Target]:
    """Draw `number` targets of a face picture; only what is visible counts."""
    visible_face = sample.region & ~sample.occluder
    choices: list[tuple[float, Target]] = []
    if sample.occluder.sum() >= _MIN_AREA:
        choices.append((0.45, Target(inside=sample.occluder, contrast=visible_face, kind="occluder")))
    if visible_face.sum() >= _MIN_AREA:
        choices.append((0.3, Target(inside=visible_face, contrast=~visible_face, kind="visible_face")))
    for names, weight, kind in ((_PARTS, 0.06, "part"), (_SURROUND, 0.05, "surround")):
        for name in names:
            inside = (sample.parsing == CLASSES.index(name)) & ~sample.occluder
            if inside.sum() >= _MIN_AREA:
                around = visible_face & ~inside if kind == "part" else ~inside
                choices.append((weight, Target(inside=inside, contrast=around, kind=kind)))
    return _draw(choices, number, rng)


def segment_targets(segments: Int[np.ndarray, "s s"], number: int, rng: np.random.Generator) -> list[Target]:
    """Draw `number` segments of a natural picture, larger ones more often."""
    ids, areas = np.unique(segments, return_counts=True)
    choices = [
        (float(np.sqrt(area)), Target(inside=segments == segment, contrast=segments != segment, kind="segment"))
        for segment, area in zip(ids, areas, strict=True)
        if _MIN_AREA <= area < 0.8 * segments.size
    ]
    return _draw(choices, number, rng)


def _draw(choices: list[tuple[float, Target]], number: int, rng: np.random.Generator) -> list[Target]:
    if not choices:
        return []
    weights = np.array([weight for weight, _ in choices])
    drawn = rng.choice(len(choices), size=number, p=weights / weights.sum())
    return [choices[int(index)][1] for index in drawn]


def draw_clicks(
    target: Target, regime: Regime, patch: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Draw clicks on a target.

    Args:
        target: what to segment.
        regime: how many; "single" is one click (with one of the other polarity where one is ambiguous), "few" at most
            3 + 3, both always right; the others may be up to 30 % wrong.
        patch: pixels per token, for clicks at token centres.
        rng: source of every draw.

    Returns:
        (n, 2) float32 (x, y) in pixels of the sample as stock SAM takes them, and (n,) int64 polarity 1 or 0.
    """
    most = SET_SIZES[regime]
    # A part of a face from one click alone is ambiguous: the face is the answer to that one.
    least = 1 if target.kind in {"part", "surround"} else 0
    match regime:
        case "single":
            positives, negatives = 1, least
        case "few":
            positives = int(rng.integers(1, 4))
            negatives = int(rng.integers(least, 4))
        case "some":
            positives, negatives = int(rng.integers(1, most // 2 + 1)), int(rng.integers(1, most // 2 + 1))
        case "dense":
            total = int(rng.integers(48, most + 1))
            share = target.inside.sum() / max(1, target.inside.sum() + target.contrast.sum())
            positives = int(np.clip(round(total * share), 1, total - 1))
            negatives = total - positives
    at_centers = rng.random() < 0.6
    inside = _points(target.inside, positives, patch if at_centers else 1, rng)
    elsewhere = target.contrast if rng.random() < 0.8 else ~target.inside
    outside = _points(elsewhere, negatives, patch if at_centers else 1, rng)
    points = np.concatenate([inside, outside])
    polarity = np.concatenate([np.ones(len(inside), np.int64), np.zeros(len(outside), np.int64)])
    if regime in {"some", "dense"} and rng.random() < 0.6:
        polarity = _flip_some(points, polarity, target.inside.shape[0], rng)
    return points, polarity


def _points(where: np.ndarray, number: int, patch: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (x, y) inside a region; with a patch, centres of tokens of which more than half is inside."""
    side = where.shape[0]
    if patch > 1:
        share = cv2.resize(where.astype(np.float32), (side // patch, side // patch), interpolation=cv2.INTER_AREA)
        rows, cols = np.nonzero(share > 0.5)
    if patch == 1 or rows.size == 0:
        patch = 1
        rows, cols = np.nonzero(where)
    if rows.size == 0 or number == 0:
        return np.empty((0, 2), dtype=np.float32)
    drawn = rng.choice(rows.size, size=number, replace=number > rows.size)
    centers = (np.stack([cols[drawn], rows[drawn]], axis=1) + 0.5) * patch - 0.5
    return centers.astype(np.float32)


def _flip_some(points: np.ndarray, polarity: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Give up to 30 % the wrong polarity, scattered or, as a bad reference does, in one place."""
    share = rng.uniform(0.0, 0.3)
    if rng.random() < 0.5:
        wrong = rng.random(len(points)) < share
    else:
        distance = np.linalg.norm(points - rng.uniform(0, side, size=2), axis=1)
        wrong = distance <= np.quantile(distance, share)
    return np.where(wrong, 1 - polarity, polarity)
