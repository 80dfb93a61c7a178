"""Which face meets which cut-out in a benchmark: balanced by quotas instead of drawn picture by picture.

Independent draws leave some faces out, use others four times and make the share of a kind a matter of luck; a plan uses
every face once before any twice, gives every kind its quota, and every cut-out of a kind one use before any a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from s3pot.seeding import generator

Role = Literal["composite", "decoy", "clean"]

_MOST_SPARES = 7


@dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """One picture of a benchmark; faces and cut-outs are named by their ids.

    Attributes:
        role: what is done to the face.
        face: id of the face.
        cutouts: ids of the occluders, the first of which gives the kind; of a decoy the one whose outline is used.
        donor: id of the face whose skin a decoy pastes, None for others.
        spares: ids of further cut-outs of the first one's kind, should that one not reach this face.
    """

    role: Role
    face: str
    cutouts: tuple[str, ...] = ()
    donor: str | None = None
    spares: tuple[str, ...] = ()


def plan_benchmark(
    faces: Sequence[str],
    cutouts: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    *,
    composites: int,
    decoys: int = 0,
    clean: int = 0,
    occluders: tuple[int, int] = (1, 1),
    seed: int = 0,
) -> list[PlannedPicture]:
    """Plan a benchmark: first the composites, then the decoys, then the clean faces.

    Args:
        faces: ids of the usable faces.
        cutouts: ids of the cut-outs of each kind.
        weights: relative quota of each kind; a kind of `cutouts` without a weight is left out.
        composites: pictures with occluders.
        decoys: pictures with a seam and no occluder.
        clean: faces as they are.
        occluders: fewest and most occluders of a composite; those after the first are of another kind than the first.
        seed: of every draw; the order in which faces and cut-outs are given does not matter.

    Returns:
        The pictures in the order of the manifest. Any run of as many pictures as there are faces shows every face once.

    Raises:
        ValueError: without faces, without cut-outs of a weighted kind, or if a decoy finds no second face.
    """
    if not faces:
        raise ValueError("a benchmark needs at least one face")
    if decoys and len(faces) < 2:
        raise ValueError("a decoy pastes skin of another face: it needs at least two faces")
    order = _permuted(faces, seed, "faces")
    dealer = _Dealer(cutouts, weights, seed, "composites")
    kinds = dealer.shuffled_quotas(composites)
    firsts = [(dealer.next_of(kind),) for kind in kinds]
    laid = [
        first + dealer.more(kind, occluders, number)
        for number, (first, kind) in enumerate(zip(firsts, kinds, strict=True))
    ]
    # A decoy is not to be told by an outline that only occluders have, so it takes its own from the same cut-outs.
    outlines = _Dealer(cutouts, weights, seed, "decoys")
    pasted = [(outlines.next_of(kind),) for kind in outlines.shuffled_quotas(decoys)]
    roles: list[tuple[Role, tuple[str, ...]]] = [
        *(("composite", chosen) for chosen in laid),
        *(("decoy", chosen) for chosen in pasted),
        *(("clean", ()) for _ in range(clean)),
    ]
    return [
        PlannedPicture(
            role=role,
            face=order[number % len(order)],
            cutouts=chosen,
            donor=_donor(order, number, seed) if role == "decoy" else None,
            spares=dealer.spares(kinds[number], chosen[0]) if role == "composite" else (),
        )
        for number, (role, chosen) in enumerate(roles)
    ]


def quotas(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Split a count by weights: whole numbers that sum to it, each within 1 of its exact share.

    Largest remainders are rounded up; ties go to the larger weight, then by name.
    """
    total = sum(weights.values())
    exact = {kind: count * weight / total for kind, weight in weights.items()}
    split = {kind: int(share) for kind, share in exact.items()}
    by_remainder = sorted(exact, key=lambda kind: (split[kind] - exact[kind], -weights[kind], kind))
    for kind in by_remainder[: count - sum(split.values())]:
        split[kind] += 1
    return split


class _Dealer:
    """Deals cut-outs: of each kind in a fixed random order, from the start again when all were dealt."""

    def __init__(
        self, cutouts: Mapping[str, Sequence[str]], weights: Mapping[str, float], seed: int, stage: str
    ) -> None:
        usable = sorted(kind for kind, ids in cutouts.items() if ids and weights.get(kind, 0.0) > 0.0)
        if not usable:
            raise ValueError(f"no cut-outs of a kind with a weight: kinds {sorted(cutouts)}, weights {sorted(weights)}")
        self.weights = {kind: weights[kind] for kind in usable}
        self._orders = {kind: _permuted(cutouts[kind], seed, f"{stage}/{kind}") for kind in usable}
        self._dealt = dict.fromkeys(usable, 0)
        self._seed, self._stage = seed, stage

    def shuffled_quotas(self, count: int) -> list[str]:
        split = quotas(count, self.weights)
        kinds = [kind for kind in self.weights for _ in range(split[kind])]
        rng = generator(self._seed, "benchmark", f"{self._stage}/kinds")
        return [kinds[place] for place in rng.permutation(len(kinds))]

    def next_of(self, kind: str) -> str:
        order, dealt = self._orders[kind], self._dealt[kind]
        self._dealt[kind] += 1
        return order[dealt % len(order)]

    def spares(self, kind: str, cutout: str) -> tuple[str, ...]:
        order = self._orders[kind]
        place = order.index(cutout)
        return tuple(order[place + 1 :] + order[:place])[:_MOST_SPARES]

    def more(self, kind: str, occluders: tuple[int, int], number: int) -> tuple[str, ...]:
        """Deal the occluders after the first, as many as a draw says, of kinds drawn by weight."""
        rng = generator(self._seed, "benchmark", f"{self._stage}/more/{number}")
        wanted = int(rng.integers(occluders[0], occluders[1] + 1)) - 1
        others = [other for other in self.weights if other != kind]
        wanted = min(wanted, len(others))
        if not wanted:
            return ()
        share = np.array([self.weights[other] for other in others])
        drawn = rng.choice(len(others), size=wanted, replace=False, p=share / share.sum())
        return tuple(self.next_of(others[int(place)]) for place in drawn)


def _permuted(ids: Sequence[str], seed: int, stage: str) -> list[str]:
    ordered = sorted(ids)
    return [ordered[place] for place in generator(seed, "benchmark", stage).permutation(len(ordered))]


def _donor(order: Sequence[str], number: int, seed: int) -> str:
    step = int(generator(seed, "benchmark", f"donor/{number}").integers(1, len(order)))
    return order[(number + step) % len(order)]
