"""Which picture belongs to which split, by hash: the same on every machine and in any order.

Pictures of one group (a person, near-duplicates) stay together. With shares, a group keeps its split when pictures
join or leave; with counts, the splits have the sizes asked for, and a group may move when others join.

The paper [S3POT 4]: of FFHQ, 104 pictures are validation and all others training; of CelebA, 96 are validation and all
others test. Which 104 and 96 it does not say; here the seed does.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy import sparse
from scipy.sparse import csgraph

from s3pot.seeding import derive_seed

PAPER: Mapping[str, tuple[Mapping[str, int], str]] = {
    "ffhq": ({"val": 104}, "train"),
    "celebamask_hq": ({"val": 96}, "test"),
}
"""Per source: sizes of splits, and the one that takes the rest."""


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """How pictures are split.

    Attributes:
        rule: `shares` and `counts` take the keys of these names; `paper` is that of the paper; `keep` leaves the splits
            as the manifest has them, to check them.
        shares: share of the groups per split; must sum to 1. shares.train=0.8 shares.val=0.2
        counts: pictures per split; `rest` takes all others. counts.val=200 rest=train
        rest: see counts.
        by: column whose values stay together, such as identity; a picture without a value is a group of its own.
        seed: of the hash.
    """

    rule: Literal["shares", "counts", "paper", "keep"] = "shares"
    shares: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    rest: str | None = None
    by: str = "id"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that the rule has what it needs and nothing else."""
        given = {"shares": bool(self.shares), "counts": bool(self.counts)}
        for name, there in given.items():
            if there != (self.rule == name):
                raise ValueError(f"{name} {'do not go' if there else 'are needed'} with rule={self.rule}")
        if self.shares and (min(self.shares.values()) < 0 or abs(sum(self.shares.values()) - 1) > 1e-6):
            raise ValueError(f"shares must be at least 0 and sum to 1, got {self.shares}")
        if self.counts and (min(self.counts.values()) < 0 or self.rest is None or self.rest in self.counts):
            raise ValueError("counts must be at least 0, and rest=NAME say which other split takes all others")


def assign(manifest: pd.DataFrame, rule: SplitRule, together: Sequence[tuple[int, int]] = ()) -> list[str]:
    """Return the split of every row.

    Args:
        manifest: with `id`, the column `rule.by`, and `source` for the paper's rule, `split` to keep.
        rule: how to split.
        together: pairs of rows that must not be separated.

    Raises:
        ValueError: if a column or a value is missing, a source is none of the paper's, or counts exceed the pictures.
    """
    if rule.by not in manifest.columns:
        raise ValueError(f"by={rule.by}: the manifest has no such column, only {', '.join(manifest.columns)}")
    if rule.rule == "keep":
        if manifest["split"].isna().any():
            raise ValueError(f"rule=keep: {int(manifest['split'].isna().sum())} pictures have no split")
        return [str(name) for name in manifest["split"]]
    groups = _groups(manifest, rule.by, together)
    if rule.rule == "paper":
        return _paper(manifest, groups, rule.seed)
    if rule.rule == "shares":
        return _shared_out(groups, rule.shares, rule.seed)
    assert rule.rest is not None
    return _counted_out(groups, rule.counts, rule.rest, rule.seed)


def _groups(manifest: pd.DataFrame, by: str, together: Sequence[tuple[int, int]]) -> list[str]:
    """Name the group of every row; linked groups get the smallest name among them."""
    known = (manifest[by].notna() & (by != "id")).tolist()
    # The two kinds of names must not meet: a picture may be called like a person.
    columns = zip(known, manifest["id"].tolist(), manifest[by].tolist(), strict=True)
    names = [f"{by}/{value}" if has_value else f"id/{own}" for has_value, own, value in columns]
    if not together:
        return names
    numbers, unique = pd.factorize(np.array(names, dtype=object), sort=True)
    rows: Int[np.ndarray, "m 2"] = numbers[np.array(together, dtype=np.int64)]
    links = sparse.coo_matrix((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(len(unique), len(unique)))
    _, component = csgraph.connected_components(links, directed=False)
    first: dict[int, str] = {}
    for name, number in zip(unique, component, strict=True):
        first.setdefault(int(number), name)
    return [first[int(component[number])] for number in numbers]


def _draw(seed: int, group: str) -> float:
    return derive_seed(seed, "split", group) / 2**63


def _shared_out(groups: list[str], shares: Mapping[str, float], seed: int) -> list[str]:
    names = list(shares)
    ends = np.cumsum([shares[name] for name in names])
    ends[-1] = 1.0
    by_group = {group: names[int(np.searchsorted(ends, _draw(seed, group), side="right"))] for group in set(groups)}
    return [by_group[group] for group in groups]


def _counted_out(groups: list[str], counts: Mapping[str, int], rest: str, seed: int) -> list[str]:
    if sum(counts.values()) > len(groups):
        raise ValueError(f"counts of {sum(counts.values())} pictures in all, but there are {len(groups)}")
    sizes = Counter(groups)
    waiting = sorted(sizes, key=lambda group: (_draw(seed, group), group))
    by_group: dict[str, str] = {}
    for name, count in counts.items():
        left = count
        for group in waiting:
            # A group that is too large for what is left is passed over, not cut.
            if sizes[group] <= left and group not in by_group:
                by_group[group] = name
                left -= sizes[group]
            if not left:
                break
    return [by_group.get(group, rest) for group in groups]


def _paper(manifest: pd.DataFrame, groups: list[str], seed: int) -> list[str]:
    sources = manifest["source"].tolist()
    unknown = sorted({str(source) for source in sources} - set(PAPER))
    if unknown:
        raise ValueError(
            f"rule=paper knows the sources {', '.join(PAPER)}, the manifest has {', '.join(unknown)}: import with "
            "source=ffhq or source=celebamask_hq"
        )
    splits = [""] * len(sources)
    for source, (counts, rest) in PAPER.items():
        rows = [row for row, name in enumerate(sources) if name == source]
        if rows:
            of_source = _counted_out([groups[row] for row in rows], counts, rest, seed)
            for row, name in zip(rows, of_source, strict=True):
                splits[row] = name
    return splits
