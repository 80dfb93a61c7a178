"""Which images a report shows: the worst, the best, and an even sample of the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.results import RANKING_METRIC, Evaluation
from s3pot.metrics import FAILED

# Worst and best cases take at most this many places each; the rest goes to the sample.
_EXTREMES = 4


@dataclass(frozen=True, kw_only=True)
class Section:
    """Images shown together."""

    title: str
    explanation: str
    ids: tuple[str, ...]


def choose_sections(manifest: pd.DataFrame, evaluations: Sequence[Evaluation], pictures: int) -> list[Section]:
    """Choose worst and best images of the last evaluation by IoU, then an even sample of the others.

    Candidates are the evaluated images, or all of the store when there is no evaluation; not those that failed in the
    store. Images without an IoU, such as faces without an occluder, are not ranked. No image is shown twice.

    Args:
        manifest: the store's rows, indexed by id, with their status.
        evaluations: the last one ranks.
        pictures: at most this many in all.
    """
    ids = candidates(manifest, evaluations)
    ranked = _ranked(ids, evaluations[-1]) if evaluations else []
    extremes = min(_EXTREMES, math.ceil(pictures / 4), pictures // 2, len(ranked) // 2)
    worst, best = ranked[:extremes], ranked[len(ranked) - extremes :][::-1]
    others = sorted(set(ids) - {*worst, *best})
    sampled = _even_sample(others, max(0, pictures - 2 * extremes))
    sections = []
    if extremes:
        name = evaluations[-1].name
        sections = [
            Section(title="Worst cases", explanation=f"Lowest IoU of {name}, worst first.", ids=tuple(worst)),
            Section(title="Best cases", explanation=f"Highest IoU of {name}, best first.", ids=tuple(best)),
        ]
    if sampled:
        shown = "All," if len(sampled) == len(others) else f"{len(sampled)} of {len(others)}, evenly spaced,"
        title = "Other images" if extremes else "Images"
        sections.append(Section(title=title, explanation=f"{shown} in the order of their ids.", ids=tuple(sampled)))
    return sections


def candidates(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the ids that can be shown, sorted."""
    evaluated = {image_id for evaluation in evaluations for image_id in evaluation.images.index}
    failed = set(manifest.index[manifest["status"] == FAILED])
    return sorted((evaluated if evaluations else set(manifest.index)) - failed)


def _ranked(ids: list[str], evaluation: Evaluation) -> list[str]:
    scores = evaluation.images[RANKING_METRIC].reindex(ids).dropna()
    return sorted(scores.index, key=lambda image_id: (scores[image_id], image_id))


def _even_sample(ids: list[str], number: int) -> list[str]:
    # Evenly over the sorted ids: not cherry-picked, and neighbours often share a kind or a face.
    return ids if number >= len(ids) else [ids[place * len(ids) // number] for place in range(number)]
