"""A detector that is hot where it is told to be, on faces whose landmarks are known."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from s3pot.evaluation import ImageTruth
from s3pot.ladder import LadderImage
from s3pot.reference.landmarks import LANDMARKS, LandmarkDetector, read_landmarks
from s3pot.scorecard.landmarks import estimate_landmarks, measure_covered, measure_landmarks
from tests.faces import draw_face

PARSING = draw_face(256)[1]
PLACES = read_landmarks(PARSING)
BRIGHT = np.full((256, 256, 3), 204, dtype=np.uint8)


class Placed(LandmarkDetector):
    """Heat everywhere equals the brightness there, and a bit more in the cell of every landmark, shifted by cells."""

    def __init__(self, right: int = 0) -> None:
        super().__init__()
        self.cells = [(round((y + 0.5) / 8 - 0.5), round((x + 0.5) / 8 - 0.5) + right) for x, y in PLACES]

    def forward(self, image: Tensor) -> Tensor:
        heat = nn.functional.avg_pool2d(image.mean(dim=1, keepdim=True), 4).clamp(0.01, 0.98)
        heat = heat.repeat(1, len(LANDMARKS), 1, 1)
        for place, (row, col) in enumerate(self.cells):
            heat[:, place, row, col] += 0.005
        return torch.logit(heat)


def composite(name: str = "a", covered: slice = slice(0, 0)) -> LadderImage:
    """A bright face, black in the rows that are covered."""
    image, occlusion = BRIGHT.copy(), np.zeros((256, 256), dtype=bool)
    occlusion[covered] = True
    image[occlusion] = 0
    row = SimpleNamespace(id=name, kind="objects", face_id=f"face-{name}", cutout_id="c")
    truth = ImageTruth(occlusion=occlusion, region=PARSING == 6)
    return LadderImage(row=row, image=image, clean=BRIGHT, parsing=PARSING, truth=truth)


# Everything below the middle of the face: nose tip, mouth, chin; and a strip with hair alone.
LOWER, HAIR = slice(128, 256), slice(0, 12)


def test_peaks_at_their_places() -> None:
    table = measure_landmarks([composite(covered=LOWER)], Placed().eval())
    assert table["landmark"].tolist() == list(LANDMARKS)
    assert table["distance"].max() <= math.hypot(4, 4), "a cell's middle is at most half a cell away, 4 px"
    assert table["near"].tolist() == [1.0] * len(LANDMARKS)
    np.testing.assert_allclose(table["confidence"], 0.805, atol=1e-3)


def test_peaks_aside_are_measured_in_pixels_of_256() -> None:
    for side in (256, 128):
        entry = composite(covered=LOWER)
        shrink = 256 // side
        for name in ("image", "clean", "parsing"):
            object.__setattr__(entry, name, np.ascontiguousarray(getattr(entry, name)[::shrink, ::shrink]))
        object.__setattr__(entry, "truth", ImageTruth(occlusion=entry.image[..., 0] == 0, region=entry.parsing == 6))
        table = measure_landmarks([entry], Placed(right=2).eval())
        # Two cells are 16 px of 256, give or take the half cell.
        assert table["distance"].between(11, 21).all()
        straight = measure_landmarks([entry], Placed().eval())
        assert table["distance"].mean() - straight["distance"].mean() > 8
        assert table["near"].mean() < 0.3


def test_a_face_is_measured_once_and_hidden_parts_never() -> None:
    first, second, third = (composite(name, LOWER) for name in "abc")
    third.row.face_id = first.row.face_id
    parsing = PARSING.copy()
    parsing[parsing == 3] = 6  # no eyes
    object.__setattr__(second, "parsing", parsing)
    table = measure_landmarks([first, second, third], Placed().eval())
    assert table["face_id"].value_counts().to_dict() == {"face-a": 11, "face-b": 9}


def test_covered_landmarks_lose_their_confidence() -> None:
    entry = composite(covered=LOWER)
    inside = int((np.rint(PLACES[:, 1]) >= 128).sum())
    [row] = measure_covered([entry], Placed().eval()).to_dict("records")
    assert row["landmarks"] == inside == 7  # nose with both nostrils, mouth with its corners, chin
    assert row["clean"] == pytest.approx(0.805, abs=1e-3)
    # Their heat is read within 12 px, and they lie farther below the edge: all of it is black.
    assert PLACES[PLACES[:, 1] >= 128, 1].min() > 128 + 12
    assert row["occluded"] == pytest.approx(0.015, abs=1e-3)
    assert row["fall"] == pytest.approx(0.79, abs=2e-3)


def test_an_occluder_over_no_landmark_says_nothing() -> None:
    none, nobody = composite("b", HAIR), composite("c")
    table = measure_covered([none, nobody], Placed().eval())
    assert table["id"].tolist() == ["b"], "a picture without occluder is no row"
    assert table["landmarks"].tolist() == [0]
    assert table[["clean", "occluded", "fall"]].isna().all(axis=None)


def test_estimates_by_hand() -> None:
    marks = pd.DataFrame(
        {
            "face_id": ["a", "a", "b", "b", "b"],
            "distance": [1.0, 3.0, 4.0, 13.0, 20.0],
            "near": [1.0, 1.0, 1.0, 0.0, 0.0],
            "confidence": [0.9, 0.9, 0.8, 0.5, 0.4],
        }
    )
    covered = pd.DataFrame(
        {
            "face_id": ["a", "b", "c"],
            "cutout_id": ["x", "y", "z"],
            "clean": [0.9, 0.7, math.nan],
            "occluded": [0.3, 0.5, math.nan],
            "fall": [0.6, 0.2, math.nan],
        }
    )
    found = estimate_landmarks(marks, covered)
    assert {key.removeprefix("landmarks/"): (round(made.mean, 6), made.n) for key, made in found.items()} == {
        "distance": (4.0, 5),
        "near": (0.6, 5),
        "confidence": (0.7, 5),
        "covered_clean": (0.8, 2),
        "covered_occluded": (0.4, 2),
        "covered_fall": (0.4, 2),
    }
    fall = found["landmarks/covered_fall"]
    assert (fall.low, fall.high) == pytest.approx((0.2, 0.6)), "two pictures: each alone is the worst case"
