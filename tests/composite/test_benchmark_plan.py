from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from s3pot.composite.benchmark_plan import PlannedPicture, plan_benchmark, quotas

FACES = [f"face{number:02d}" for number in range(7)]
CUTOUTS = {kind: [f"{kind}/{name}" for name in names] for kind, names in {"hands": "abcde", "hats": "xy"}.items()}
WEIGHTS = {"hands": 0.6, "hats": 0.2, "segments": 0.2}


def plan(
    faces: Sequence[str] = FACES, cutouts: Mapping[str, Sequence[str]] = CUTOUTS, **options: Any
) -> list[PlannedPicture]:
    return plan_benchmark(faces, cutouts, WEIGHTS, **({"composites": 28} | options))


def kind_of(cutout: str) -> str:
    return cutout.split("/")[0]


def uses(pictures: Sequence[PlannedPicture]) -> Counter[str]:
    return Counter(cutout for picture in pictures for cutout in picture.cutouts)


@pytest.mark.parametrize(
    ("count", "weights", "expected"),
    [
        (8, {"a": 3.0, "b": 1.0}, {"a": 6, "b": 2}),
        (10, {"a": 0.5, "b": 0.3, "c": 0.16}, {"a": 5, "b": 3, "c": 2}),  # 5.21, 3.13, 1.67
        (1, {"a": 1.0, "b": 1.0}, {"a": 1, "b": 0}),
        (2, {"b": 1.0, "a": 2.0}, {"a": 1, "b": 1}),  # 1.33, 0.67
        (0, {"a": 1.0}, {"a": 0}),
    ],
)
def test_quotas_by_hand(count: int, weights: dict[str, float], expected: dict[str, int]) -> None:
    assert quotas(count, weights) == expected


def test_kinds_get_their_quota_and_those_without_cutouts_or_weight_none() -> None:
    pictures = plan(cutouts=CUTOUTS | {"unweighted": ["unweighted/z"], "segments": []})
    kinds = Counter(kind_of(picture.cutouts[0]) for picture in pictures)
    assert kinds == {"hands": 21, "hats": 7}, "28 pictures at 0.6 to 0.2"


def test_every_cutout_of_a_kind_is_used_once_before_one_is_used_twice() -> None:
    pictures = plan()
    for kind, ids in CUTOUTS.items():
        dealt = [cutout for picture in pictures for cutout in picture.cutouts if kind_of(cutout) == kind]
        rounds = [dealt[first : first + len(ids)] for first in range(0, len(dealt), len(ids))]
        assert len(rounds) > 2
        assert all(len(set(one)) == len(one) for one in rounds)


@pytest.mark.parametrize("roles", [{}, {"composites": 0, "decoys": 7, "clean": 7}, {"composites": 14, "clean": 7}])
def test_every_face_is_used_once_before_one_is_used_twice(roles: dict[str, int]) -> None:
    pictures = plan(**roles)
    for first in range(len(pictures) - len(FACES) + 1):
        assert {picture.face for picture in pictures[first : first + len(FACES)]} == set(FACES)


def test_the_roles_are_as_many_as_asked_for() -> None:
    pictures = plan(composites=5, decoys=3, clean=2)
    assert [picture.role for picture in pictures] == ["composite"] * 5 + ["decoy"] * 3 + ["clean"] * 2
    for picture in pictures:
        assert len(picture.cutouts) == (picture.role != "clean")
        assert (picture.donor is not None) == (picture.role == "decoy")


def test_a_decoy_takes_skin_of_another_face() -> None:
    pictures = plan(composites=0, decoys=70)
    assert all(picture.donor in FACES and picture.donor != picture.face for picture in pictures)
    assert {picture.donor for picture in pictures} == set(FACES)


def test_decoys_do_not_change_the_composites() -> None:
    assert plan(decoys=9, clean=3)[:28] == plan()


def test_the_kinds_on_a_face_vary() -> None:
    # 28 pictures of 7 faces: kinds in a fixed order would put the same kind on the same face every time.
    kinds = {face: {kind_of(p.cutouts[0]) for p in plan() if p.face == face} for face in FACES}
    assert sum(len(found) == 2 for found in kinds.values()) >= 3


def test_a_seed_gives_the_same_plan_in_whatever_order_things_are_listed() -> None:
    shuffled = {kind: list(ids)[::-1] for kind, ids in reversed(CUTOUTS.items())}
    assert plan() == plan(FACES[::-1], shuffled)
    other = plan(seed=1)
    assert [picture.face for picture in other] != [picture.face for picture in plan()]
    assert [picture.cutouts for picture in other] != [picture.cutouts for picture in plan()]


def test_several_occluders_are_of_different_kinds() -> None:
    cutouts = {kind: [f"{kind}/{number}" for number in range(20)] for kind in ("hands", "hats", "segments")}
    pictures = plan(cutouts=cutouts, composites=60, occluders=(1, 3))
    assert {len(picture.cutouts) for picture in pictures} == {1, 2, 3}
    for picture in pictures:
        kinds = [kind_of(cutout) for cutout in picture.cutouts]
        assert len(set(kinds)) == len(kinds)
    assert Counter(kind_of(picture.cutouts[0]) for picture in pictures) == {"hands": 36, "hats": 12, "segments": 12}
    for kind in cutouts:
        counts = [uses(pictures)[cutout] for cutout in cutouts[kind]]
        assert max(counts) - min(counts) <= 1, "the second on a picture is dealt from the same stack as the first"


def test_there_are_no_more_occluders_than_kinds() -> None:
    pictures = plan(cutouts={"hands": ["hands/a"]}, composites=3, occluders=(2, 2))
    assert [picture.cutouts for picture in pictures] == [("hands/a",)] * 3


def test_what_cannot_be_planned() -> None:
    with pytest.raises(ValueError, match="at least one face"):
        plan(faces=[])
    with pytest.raises(ValueError, match="at least two faces"):
        plan(faces=["only"], decoys=1)
    with pytest.raises(ValueError, match="no cut-outs of a kind with a weight"):
        plan(cutouts={"unweighted": ["unweighted/z"]})
