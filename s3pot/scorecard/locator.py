"""How well the face locator finds faces: in scenes that are drawn, so that every crop is known, and where nobody is.

Photographs without people are measured apart from scenes. Those of the training say what the locator failed to learn.
Others (BSDS500 val) say what it does with unseen ones; they are reported only, nothing may be chosen on them.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from s3pot.locator import LOCATOR_SIZE, FaceLocator, LocatedFace, locate_faces
from s3pot.scorecard.dev_scenes import LocatorMaterial, Picture, draw_dev_scenes
from s3pot.scorecard.estimates import Estimate, mean_of, quantile_of
from s3pot.scorecard.table import Target

MOST_OFF_CENTER, MOST_OFF_SIDE = 0.15, 1.3
"""A face is found when the centre is at most so many sides off and the side at most by this factor."""
_PICTURES: dict[Picture, str] = {"clean": "nothing on them", "occluded": "with occluders"}
_QUANTILES = {"median": 0.5, "p90": 0.9}
_ERRORS = {
    "center": "centre off, in sides",
    "side_factor": "side off by a factor",
    "roll": "roll off, degrees",
}


def _scene_targets(picture: Picture, words: str) -> tuple[Target, ...]:
    key = f"locator/{picture}"
    return (
        Target(key=f"{key}_found", model="locator", measure=f"faces located, {words}"),
        *(
            Target(key=f"{key}_{error}_{name}", model="locator", measure=f"{measure}: {name}, {words}", better="lower")
            for error, measure in _ERRORS.items()
            for name in _QUANTILES
        ),
        Target(key=f"{key}_score", model="locator", measure=f"score of the nearest answer, {words}"),
    )


LOCATOR_TARGETS: tuple[Target, ...] = (
    *(target for picture, words in _PICTURES.items() for target in _scene_targets(picture, words)),
    Target(
        key="locator/answered_training",
        model="locator",
        measure="photographs without people that get an answer, seen in training",
        better="lower",
    ),
    Target(
        key="locator/answered_other",
        model="locator",
        measure="photographs without people that get an answer, unseen",
        better="lower",
    ),
)
"""The issue sets no target for any of them."""


def measure_scenes(material: LocatorMaterial, locator: FaceLocator, seed: int = 0) -> pd.DataFrame:
    """Locate the face of every scene.

    Returns:
        One row per scene: picture ("clean" or "occluded"), index, face_id, cutout_id and kind (empty for clean ones),
        side (of the crop, in sides of the scene), answers (their number), and the columns of `compare_faces`.
    """
    rows = []
    for picture in _PICTURES:
        for drawn in draw_dev_scenes(material, picture, seed):
            [true], answers = drawn.scene.faces, locate_faces(locator, drawn.scene.image)
            known: dict[str, Any] = {
                "picture": picture,
                "index": drawn.index,
                "face_id": drawn.face_id,
                "cutout_id": "" if drawn.cutout is None else drawn.cutout.id,
                "kind": "" if drawn.cutout is None else drawn.cutout.kind,
                "side": true.side / LOCATOR_SIZE,
                "answers": len(answers),
            }
            rows.append(known | compare_faces(answers, true))
    return pd.DataFrame(rows)


def compare_faces(answers: Sequence[LocatedFace], true: LocatedFace) -> dict[str, float]:
    """Compare a crop with the answer whose centre is nearest.

    Returns:
        center: distance of the centres in sides of the true crop; side_factor: how many times too large or too small,
        at least 1; roll: degrees, at least 0; score; found: 1 or 0. Without any answer found is 0, the rest NaN.
    """
    nearest = min(answers, key=lambda face: math.hypot(face.x - true.x, face.y - true.y), default=None)
    if nearest is None:
        return dict.fromkeys(("center", "side_factor", "roll", "score"), math.nan) | {"found": 0.0}
    center = math.hypot(nearest.x - true.x, nearest.y - true.y) / true.side
    factor = max(nearest.side / true.side, true.side / nearest.side)
    return {
        "center": center,
        "side_factor": factor,
        "roll": abs(math.degrees(math.remainder(nearest.roll - true.roll, 2 * math.pi))),
        "score": nearest.score,
        "found": float(center <= MOST_OFF_CENTER and factor <= MOST_OFF_SIDE),
    }


def measure_photographs(material: LocatorMaterial, locator: FaceLocator) -> pd.DataFrame:
    """Count the answers where there is nobody.

    Returns:
        One row per photograph: seen ("training" or "other"), face_id (the photograph: it is the cluster), answers,
        answered (1 or 0), score (the highest; NaN without an answer).
    """
    rows = []
    for seen, photographs in (("training", material.photographs), ("other", material.others)):
        for name, image in photographs.items():
            answers = locate_faces(locator, image)
            known: dict[str, Any] = {
                "seen": seen,
                "face_id": name,
                "answers": len(answers),
                "answered": float(bool(answers)),
            }
            rows.append(known | {"score": answers[0].score if answers else math.nan})
    return pd.DataFrame(rows, columns=["seen", "face_id", "answers", "answered", "score"])


def estimate_locator(scenes: pd.DataFrame, photographs: pd.DataFrame, seed: int = 0) -> dict[str, Estimate]:
    """Average the tables of `measure_scenes` and `measure_photographs`."""
    found = {}
    for picture, rows in scenes.groupby("picture"):
        rule = f"centre within {MOST_OFF_CENTER} sides, side within a factor of {MOST_OFF_SIDE}"
        found[f"locator/{picture}_found"] = mean_of(rows, "found", seed, rule)
        for error in _ERRORS:
            for name, share in _QUANTILES.items():
                found[f"locator/{picture}_{error}_{name}"] = quantile_of(rows, error, share, seed, "where answered")
        found[f"locator/{picture}_score"] = mean_of(rows, "score", seed, "where answered")
    for seen, rows in photographs.groupby("seen"):
        note = "also the backgrounds of the scenes" if seen == "training" else "nothing may be chosen on them"
        found[f"locator/answered_{seen}"] = mean_of(rows, "answered", seed, note)
    return found
