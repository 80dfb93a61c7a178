"""Who may see which face and which cut-out: the folds `dev`, `prefix` and `head` of a training split.

The frozen prefix is fitted on `prefix`, the reweighter on `head` (on faces the prefix was fitted to, prompts are
cleaner than in life), choices are made on `dev`. `val` is a folder of its own and never split.
"""

import hashlib
from typing import Literal

Fold = Literal["dev", "head", "prefix"]

DEV_SHARE = 0.10
HEAD_SHARE = 0.20


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def fold_of_face(face_id: str) -> Fold:
    """Assign a training face to a fold by the hash of its id: about 10 % dev, 20 % head, 70 % prefix."""
    draw = _uniform(f"face/{face_id}")
    if draw < DEV_SHARE:
        return "dev"
    return "head" if draw < DEV_SHARE + HEAD_SHARE else "prefix"


def fold_of_cutouts(kind: str, names: list[str]) -> dict[str, Fold]:
    """Assign the cut-outs of one kind to folds; every fold gets at least one when there are three groups.

    Groups stay together: a mask template with its left and right views, and hands by subject. Hands have only two
    subjects, so the first belongs to `prefix` and the second is shared, cut-out by cut-out, by `head` and `dev`.

    Args:
        kind: occluder kind, e.g. "hands".
        names: file stems of all its cut-outs (the assignment depends on the whole list).

    Returns:
        Fold by file stem.
    """
    if kind == "hands":
        subjects = sorted({name.split("_")[0] for name in names})
        return {
            name: "prefix"
            if name.split("_")[0] == subjects[0] and len(subjects) > 1
            else ("dev" if _uniform(f"hands/{name}") < 0.4 else "head")
            for name in names
        }
    groups = sorted({_group(kind, name) for name in names}, key=lambda group: _uniform(f"{kind}/{group}"))
    n_dev = max(1, round(DEV_SHARE * len(groups)))
    n_head = max(1, round(HEAD_SHARE * len(groups)))
    by_group: dict[str, Fold] = {}
    for rank, group in enumerate(groups):
        by_group[group] = "dev" if rank < n_dev else "head" if rank < n_dev + n_head else "prefix"
    return {name: by_group[_group(kind, name)] for name in names}


def _group(kind: str, name: str) -> str:
    return name.removesuffix("_left").removesuffix("_right") if kind == "masks" else name
