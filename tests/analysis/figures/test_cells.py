from pathlib import Path

import numpy as np
import pytest

from analysis.figures.cells import draw_cells, draw_curve, draw_heatmap, draw_side_by_side
from analysis.sweep_results import Sweep, read_sweep
from tests.analysis.fake_sweep import FE, SA, SELECTOR, write_sweep

LAM, ALPHA, PROMPTS = "objective.lam", "objective.alpha", "chain.prefix.most_prompts"


@pytest.fixture
def grid(tmp_path: Path) -> Sweep:
    """Nine cells of λ and α."""
    values = {LAM: [0.1, 0.5, 1.0], ALPHA: [2.0, 10.0, 50.0]}
    return read_sweep(
        write_sweep(tmp_path / "grid", values, lambda c: 0.4 + c[LAM] / 10 + c[ALPHA] / 500, title="λ and α")
    )


def test_a_heatmap_has_every_cell_in_its_place(grid: Sweep) -> None:
    drawing = draw_heatmap(grid, LAM, ALPHA)
    axes = drawing.figure.axes[0]
    values = np.asarray(axes.images[0].get_array())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.5", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["50", "10", "2"], "large values above"
    for _, cell in grid.cells.iterrows():
        column, row = [0.1, 0.5, 1.0].index(cell[LAM]), [50.0, 10.0, 2.0].index(cell[ALPHA])
        assert values[row, column] == pytest.approx(cell["mean"])
    assert [text.get_text() for text in axes.texts] == [f"{value:.3f}" for value in values.ravel()]
    assert "λ 1, α 50" in drawing.alt
    assert "n = 20 images, 3 seeds per cell" in drawing.figure.get_supxlabel()


def test_a_curve_is_the_table(tmp_path: Path) -> None:
    values = {PROMPTS: [1.0, 4.0, 64.0, None], SA: ["on", "off"]}
    sweep = read_sweep(write_sweep(tmp_path / "curve", values, lambda c: 0.5 if c[SA] == "on" else 0.3))
    axes = draw_curve(sweep, PROMPTS).figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["reweighter on", "reweighter off"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "64", "all"]
    for line, reweighter in zip(axes.lines, ("on", "off"), strict=True):
        cells = sweep.cells[sweep.cells[SA] == reweighter]
        np.testing.assert_allclose(line.get_ydata(), cells["mean"])
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3])
    for band, reweighter in zip(axes.collections, ("on", "off"), strict=True):
        cells, corners = sweep.cells[sweep.cells[SA] == reweighter], band.get_paths()[0].vertices
        assert corners[:, 1].min() == pytest.approx(cells["low"].min())
        assert corners[:, 1].max() == pytest.approx(cells["high"].max())


def test_values_over_decades_stand_on_a_logarithmic_axis(tmp_path: Path) -> None:
    for values, scale in (([0.001, 0.01, 0.1], "log"), ([0.0, 0.5, 1.0], "linear"), ([2.0, 5.0, 9.0], "linear")):
        folder = tmp_path / f"{values[0]}"
        sweep = read_sweep(write_sweep(folder, {LAM: values}, lambda c: 0.5))
        axes = draw_curve(sweep, LAM).figure.axes[0]
        assert axes.get_xscale() == scale
        np.testing.assert_array_equal(axes.get_xticks(), values)


def test_every_cell_is_a_point_in_the_order_of_the_table(grid: Sweep) -> None:
    axes = draw_side_by_side(grid).figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [grid.label(cell) for cell in grid.cells.index][::-1]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose([line.get_xdata()[0] for line in points], grid.cells["mean"].to_numpy()[::-1])
    colors = [line.get_color() for line in points]
    assert colors.count(colors[-1]) == 1, "the base, first in the table, has a colour of its own"


@pytest.mark.parametrize(
    ("axes", "names"),
    [
        ({LAM: [0.1, 0.5, 1.0], ALPHA: [1.0, 2.0]}, ["heatmap-lam-alpha", "cells"]),
        ({LAM: [0.1, 0.5, 1.0]}, ["curve-lam", "cells"]),
        ({LAM: [0.1, 0.5]}, ["cells"]),
        ({FE: [True, False], SELECTOR: ["greedy", "otsu"]}, ["cells"]),
        ({LAM: [0.1, 0.5, 1.0], SELECTOR: list("abcdefgh")}, ["cells"]),  # more lines than can be told apart
        ({LAM: [0.1, 0.5, 1.0], ALPHA: [1.0]}, ["curve-lam", "cells"]),
    ],
)
def test_the_axes_decide_what_is_drawn(tmp_path: Path, axes: dict[str, list[object]], names: list[str]) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "sweep", axes, lambda c: 0.5, seeds=(0,)))
    assert [drawing.name for drawing in draw_cells(sweep)] == names
