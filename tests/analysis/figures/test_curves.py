import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.figures.curves import draw_overfitting, draw_training
from analysis.sweep_results import read_sweep
from tests.analysis.fake_sweep import write_sweep

LAM = "objective.lam"


def test_training_shows_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5]}, lambda c: 0.5))
    drawing = draw_training(sweep)
    assert drawing is not None
    axes = drawing.figure.axes[0]
    # `write_history`: 1 / (1 + epoch) + 0.01 * seed, seeds 0, 1, 2.
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), [1.01, 0.51, 1 / 3 + 0.01])
    corners = axes.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (pytest.approx(1 / 3), pytest.approx(1.02))
    assert "3 seeds" in drawing.figure.get_supxlabel()


def test_the_base_is_always_drawn_and_the_rest_is_counted(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "sweep", {LAM: [i / 10 for i in range(1, 10)]}, lambda c: 0.5))
    drawing = draw_training(sweep)
    assert drawing is not None
    assert len(drawing.figure.axes[0].lines) == 6
    assert sweep.base is not None
    assert drawing.figure.axes[0].lines[0].get_label() == sweep.label(sweep.base)
    assert "3 more cells are not drawn" in drawing.explanation


def test_without_histories_nothing_is_drawn(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5]}, lambda c: 0.5)
    shutil.rmtree(folder / "trials")
    assert draw_training(read_sweep(folder)) is None


def test_an_image_that_stopped_keeps_its_last_value() -> None:
    rows = [
        ("a", 0, 1.0),
        ("a", 1, 0.2),
        ("b", 0, 1.0),
        ("b", 1, 0.8),
        ("b", 2, 0.6),
        ("c", 0, 1.0),
        ("c", 1, 0.9),
        ("c", 2, 0.9),
    ]
    drawing = draw_overfitting(pd.DataFrame(rows, columns=["id", "step", "total"]))
    assert drawing is not None
    objective, running = drawing.figure.axes
    np.testing.assert_allclose(objective.lines[0].get_ydata(), [1.0, 0.8, 0.6])
    np.testing.assert_allclose(running.lines[0].get_ydata(), [100, 100, 200 / 3])
    assert "n = 3 images" in drawing.figure.get_supxlabel()
    assert draw_overfitting(pd.DataFrame()) is None
