"""Which images a report shows: the worst, the best, gains and losses between two runs, and a draw of the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.results import RANKING_METRIC, Evaluation
from s3pot.metrics import FAILED
from s3pot.seeding import generator

# Chosen cases take at most this many places of each sort; the rest goes to the draw.
_EXTREMES = 4


@dataclass(frozen=True, kw_only=True)
class Section:
    """Images shown together."""

    title: str
    explanation: str
    ids: tuple[str, ...]


def choose_sections(manifest: pd.DataFrame, evaluations: Sequence[Evaluation], pictures: int) -> list[Section]:
    """Choose worst and best images of the last evaluation by IoU, then a random sample of the others.

    With several evaluations, also where the last one gains and loses most over the first. Candidates are the evaluated
    images, or all of the store when there is no evaluation; not those that failed in the store. Images without an IoU,
    such as faces without an occluder, are not ranked. No image is shown twice.

    Args:
        manifest: the store's rows, indexed by id, with their status.
        evaluations: the last one ranks.
        pictures: at most this many in all.
    """
    ids = candidates(manifest, evaluations)
    if not evaluations:
        return _sampled(ids, pictures, "Images")
    last, first = evaluations[-1], evaluations[0]
    scores = last.images[RANKING_METRIC].reindex(ids)
    rankings = [
        ("Worst cases", f"Lowest IoU of {last.name}, worst first.", scores),
        ("Best cases", f"Highest IoU of {last.name}, best first.", -scores),
    ]
    if len(evaluations) > 1:
        gain = scores - first.images[RANKING_METRIC].reindex(ids)
        rankings += [
            ("Largest gains", f"Where {last.name} is furthest above {first.name}.", (-gain).where(gain > 0)),
            ("Largest losses", f"Where {last.name} is furthest below {first.name}.", gain.where(gain < 0)),
        ]
    return _ranked(rankings, ids, pictures)


def candidates(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the ids that can be shown, sorted."""
    evaluated = {image_id for evaluation in evaluations for image_id in evaluation.images.index}
    failed = set(manifest.index[manifest["status"] == FAILED])
    return sorted((evaluated if evaluations else set(manifest.index)) - failed)


def _ranked(rankings: Sequence[tuple[str, str, pd.Series]], ids: list[str], pictures: int) -> list[Section]:
    """Take the lowest of each ranking, a like number of each, then draw from the rest."""
    rankable = min((int(ranking.notna().sum()) for _, _, ranking in rankings[:2]), default=0)
    each = min(_EXTREMES, math.ceil(pictures / (2 * len(rankings))), pictures // len(rankings), rankable // 2)
    sections: list[Section] = []
    taken: set[str] = set()
    for title, explanation, ranking in rankings:
        free = ranking.dropna().drop(
            index=[image_id for image_id in taken if image_id in ranking.index], errors="ignore"
        )
        chosen = sorted(free.index, key=lambda image_id, by=free: (by[image_id], image_id))[:each]
        taken |= set(chosen)
        if chosen:
            sections.append(Section(title=title, explanation=explanation, ids=tuple(chosen)))
    others = sorted(set(ids) - taken)
    return [*sections, *_sampled(others, pictures - len(taken), "Random images" if sections else "Images")]


def _sampled(ids: list[str], number: int, title: str) -> list[Section]:
    """Draw at random, always the same for the same ids: nobody picked them."""
    if number <= 0 or not ids:
        return []
    if number >= len(ids):
        return [Section(title=title, explanation="All, in the order of their ids.", ids=tuple(ids))]
    places = generator(0, "report/sample", "images").choice(len(ids), size=number, replace=False)
    drawn = tuple(ids[place] for place in sorted(places))
    explanation = f"{number} of {len(ids)}, drawn at random (always the same draw), in the order of their ids."
    return [Section(title=title, explanation=explanation, ids=drawn)]
