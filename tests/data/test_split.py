from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from s3pot.data.split import SplitRule, assign


def manifest(count: int, **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"id": [f"{number:05d}" for number in range(count)], "source": "ffhq", "split": None})
    return frame.assign(**columns).astype(object)


SHARES = SplitRule(shares={"train": 0.8, "dev": 0.1, "val": 0.1})


def test_shares_are_about_those_asked_for() -> None:
    counts = Counter(assign(manifest(4000), SHARES))
    for name, share in SHARES.shares.items():
        assert counts[name] == pytest.approx(4000 * share, abs=4 * (4000 * share * (1 - share)) ** 0.5), name


def test_a_split_depends_on_id_and_seed_alone() -> None:
    frame = manifest(300)
    whole = dict(zip(frame["id"], assign(frame, SHARES), strict=True))
    turned = frame.iloc[::-1].iloc[:200].reset_index(drop=True)
    assert assign(turned, SHARES) == [whole[name] for name in turned["id"]], "pictures that leave move nobody"
    other = SplitRule(shares=SHARES.shares, seed=1)
    assert assign(frame, other) != list(whole.values())
    # Written down: another machine, another year.
    assert assign(manifest(8), SHARES) == FIRST


FIRST = ["val", "train", "train", "val", "train", "train", "train", "train"]


def test_a_person_is_in_one_split_only() -> None:
    people = [f"p{number % 37}" if number % 5 else None for number in range(400)]
    frame = manifest(400, identity=people)
    rules = [
        SplitRule(shares=SHARES.shares, by="identity"),
        SplitRule(rule="counts", counts={"val": 60}, rest="train", by="identity"),
    ]
    for rule in rules:
        splits = assign(frame, rule)
        for person in set(people) - {None}:
            assert len({split for split, other in zip(splits, people, strict=True) if other == person}) == 1
        nobody = {split for split, other in zip(splits, people, strict=True) if other is None}
        assert len(nobody) > 1, "pictures of unknown people are no group"


def test_a_person_called_like_a_picture_is_nothing_special() -> None:
    frame = manifest(3, identity=["00001", None, None])
    pairs = assign(frame, SplitRule(rule="counts", counts={"val": 1}, rest="train", by="identity"))
    assert Counter(pairs) == {"val": 1, "train": 2}


def test_counts_are_exact_where_groups_allow() -> None:
    rule = SplitRule(rule="counts", counts={"val": 30, "dev": 20}, rest="train")
    assert Counter(assign(manifest(100), rule)) == {"val": 30, "dev": 20, "train": 50}
    frame = manifest(10, identity=["big"] * 6 + [None] * 4)
    splits = assign(frame, SplitRule(rule="counts", counts={"val": 3}, rest="train", by="identity"))
    assert Counter(splits) == {"val": 3, "train": 7}, "a group too large for what is left is passed over"
    with pytest.raises(ValueError, match="counts of 11 pictures in all, but there are 10"):
        assign(manifest(10), SplitRule(rule="counts", counts={"val": 11}, rest="train"))


def test_the_rule_of_the_paper() -> None:
    """104 FFHQ and 96 CelebA pictures are validation, the rest of FFHQ training, the rest of CelebA test."""
    sources = ["ffhq"] * 1104 + ["celebamask_hq"] * 1389
    frame = manifest(2493, source=sources)
    splits = assign(frame, SplitRule(rule="paper"))
    assert Counter(zip(sources, splits, strict=True)) == {
        ("ffhq", "train"): 1000,
        ("ffhq", "val"): 104,
        ("celebamask_hq", "val"): 96,
        ("celebamask_hq", "test"): 1293,
    }
    assert splits == assign(frame, SplitRule(rule="paper"))
    assert splits != assign(frame, SplitRule(rule="paper", seed=3))
    frame["source"] = "folder"
    with pytest.raises(ValueError, match="the manifest has folder: import with source=ffhq"):
        assign(frame, SplitRule(rule="paper"))


def test_linked_pictures_stay_together() -> None:
    frame = manifest(200)
    chain = [(0, 9), (9, 40), (40, 150), (3, 4)]
    splits = np.array(assign(frame, SHARES, chain))
    assert len(set(splits[[0, 9, 40, 150]])) == 1
    assert splits[3] == splits[4]
    alone = np.array(assign(frame, SHARES))
    linked = {0, 9, 40, 150, 3, 4}
    others = [row for row in range(200) if row not in linked]
    np.testing.assert_array_equal(splits[others], alone[others])


def test_splits_can_be_kept() -> None:
    frame = manifest(3, split=["a", "b", "a"])
    assert assign(frame, SplitRule(rule="keep")) == ["a", "b", "a"]
    with pytest.raises(ValueError, match="3 pictures have no split"):
        assign(manifest(3), SplitRule(rule="keep"))


def test_an_unknown_column() -> None:
    with pytest.raises(ValueError, match="by=person: the manifest has no such column, only id, source, split"):
        assign(manifest(3), SplitRule(shares={"a": 1.0}, by="person"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "shares are needed with rule=shares"),
        ({"shares": {"a": 0.5}}, "sum to 1"),
        ({"shares": {"a": 1.5, "b": -0.5}}, "at least 0"),
        ({"rule": "counts", "counts": {"val": 3}}, "rest=NAME"),
        ({"rule": "counts", "counts": {"val": 3}, "rest": "val"}, "rest=NAME"),
        ({"rule": "counts", "rest": "val"}, "counts are needed"),
        ({"rule": "paper", "shares": {"a": 1.0}}, "shares do not go with rule=paper"),
    ],
)
def test_rules_that_do_not_hold_together(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitRule(**rule)
