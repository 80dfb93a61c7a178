"""How well the landmark detector finds landmarks, and how far its confidence falls where something lies over them.

The places come from the clean labels. Distances are in pixels of a picture with a long side of 256. A confidence is
read at the expected place, as for the score of a reference (`s3pot.reference.quality`), in the clean picture and in the
occluded one: the fall is what the score lives on.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from s3pot.ladder import LadderImage
from s3pot.reference.landmarks import (
    LANDMARKS,
    LandmarkDetector,
    confidence_at,
    landmark_heat,
    peak_positions,
    read_landmarks,
)
from s3pot.reference.quality import quality_score
from s3pot.scorecard.estimates import Estimate, mean_of, quantile_of
from s3pot.scorecard.table import Target
from s3pot.scorecard.targets import occluded

NEAR_PX = 12.0
"""A peak this close to its landmark, in pixels of 256, is where it should be."""
_SIDE = 256
_AT_ONCE = 16

LANDMARK_TARGETS: tuple[Target, ...] = (
    Target(
        key="landmarks/distance", model="landmarks", measure="landmark's peak off, px of 256, median", better="lower"
    ),
    Target(key="landmarks/near", model="landmarks", measure=f"landmark's peak within {NEAR_PX:g} px of 256"),
    Target(key="landmarks/confidence", model="landmarks", measure="landmark confidence, clean pictures"),
    Target(key="landmarks/covered_clean", model="landmarks", measure="the same at covered landmarks, clean picture"),
    Target(
        key="landmarks/covered_occluded",
        model="landmarks",
        measure="the same at covered landmarks, occluded picture",
        better="lower",
    ),
    Target(key="landmarks/covered_fall", model="landmarks", measure="the same at covered landmarks, paired difference"),
)
"""The issue sets no target for any of them."""


def measure_landmarks(images: Sequence[LadderImage], detector: LandmarkDetector) -> pd.DataFrame:
    """Find the landmarks of the clean picture of every face.

    Returns:
        One row per face and landmark that its labels show: face_id, landmark, distance (px of 256 from the peak),
        near (1 or 0), confidence (at the landmark's place).
    """
    faces = list({entry.row.face_id: entry for entry in reversed(occluded(images))}.values())[::-1]
    rows = []
    for first in range(0, len(faces), _AT_ONCE):
        batch = faces[first : first + _AT_ONCE]
        for entry, heat in zip(batch, landmark_heat(detector, [entry.clean for entry in batch]), strict=True):
            side, positions = max(entry.clean.shape[:2]), read_landmarks(entry.parsing)
            distances = np.linalg.norm(peak_positions(heat, side) - positions, axis=1) * (_SIDE / side)
            confidences = confidence_at(heat, positions, side)
            for name, distance, confidence in zip(LANDMARKS, distances.tolist(), confidences.tolist(), strict=True):
                if not math.isnan(distance):
                    known = {"face_id": entry.row.face_id, "landmark": name, "distance": distance}
                    rows.append(known | {"near": float(distance <= NEAR_PX), "confidence": confidence})
    return pd.DataFrame(rows, columns=["face_id", "landmark", "distance", "near", "confidence"])


def measure_covered(images: Sequence[LadderImage], detector: LandmarkDetector) -> pd.DataFrame:
    """Read the confidence of covered landmarks in the clean and in the occluded picture.

    Returns:
        One row per occluded composite: id, kind, face_id, cutout_id, landmarks (number that are covered), clean,
        occluded and fall (clean - occluded), means over its covered landmarks; NaN where none is covered.
    """
    rows = []
    for entry in images:
        truth = entry.truth.occlusion
        if truth is None or not truth.any():
            continue
        score = quality_score(detector, entry.clean, entry.image, read_landmarks(entry.parsing), truth)
        clean, covered = score.landmark_confidence, score.landmark_confidence_occluded_image
        known = {name: getattr(entry.row, name) for name in ("id", "kind", "face_id", "cutout_id")}
        rows.append(
            known | {"landmarks": score.landmarks, "clean": clean, "occluded": covered, "fall": clean - covered}
        )
    return pd.DataFrame(rows)


def estimate_landmarks(landmarks: pd.DataFrame, covered: pd.DataFrame, seed: int = 0) -> dict[str, Estimate]:
    """Average the tables of `measure_landmarks` and `measure_covered`."""
    one, mean = "one picture per face", "mean of pictures"
    return {
        "landmarks/distance": quantile_of(landmarks, "distance", 0.5, seed, one),
        "landmarks/near": mean_of(landmarks, "near", seed, one),
        "landmarks/confidence": mean_of(landmarks, "confidence", seed, one),
        "landmarks/covered_clean": mean_of(covered, "clean", seed, mean),
        "landmarks/covered_occluded": mean_of(covered, "occluded", seed, mean),
        "landmarks/covered_fall": mean_of(covered, "fall", seed, mean),
    }
