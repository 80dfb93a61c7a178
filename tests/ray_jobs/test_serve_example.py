"""The example photograph."""

import numpy as np
from skimage import data

from ray_jobs.serve_example import example_photograph
from s3pot.images import decode_image


def test_the_astronaut_is_there_and_partly_covered() -> None:
    photograph = decode_image(example_photograph(), "example").astype(int)
    astronaut = data.astronaut().astype(int)
    changed = np.abs(photograph - astronaut).max(axis=2) > 60
    assert photograph.shape == astronaut.shape
    # Her mouth lies at about (222, 145), her eyes at (205, 105) and (243, 105): see tests/stand_ins.py.
    assert 0.2 < changed[130:175, 200:260].mean() < 0.95
    assert changed[95:115, 195:255].mean() < 0.05
    assert changed.mean() < 0.04
