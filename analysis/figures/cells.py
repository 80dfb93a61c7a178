"""Figures of a sweep's cells: IoU against one numeric axis, a heatmap of two, and cells side by side.

IoU against the number of prompts is Fig. 4 of the paper, against the quality of the reference its Fig. 10, and the
heatmap is the grid of λ and α. Bars and bands are the 95 % intervals of the cells' table, over faces and cut-outs.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import Drawing, styled
from analysis.sweep_results import Sweep, axis_name, axis_value, is_numeric, value_text

_MOST_LINES = len(style.COLORS)
_MOST_SIDE_BY_SIDE = 16  # more are read off the curve or the heatmap
_METRIC = "mean occlusion IoU"
_AXIS_LABELS = {
    "most_prompts": "prompts kept, of occlusion and of face each",
    "reference_degradation": "blur of the reference (0 = as generated, 1 = strongest)",
    "lam": "weight λ of the face penalty",
    "alpha": "steepness α of the face penalty",
}


def draw_cells(sweep: Sweep) -> list[Drawing]:
    """Draw what suits the axes of a sweep."""
    numeric = [axis for axis in sweep.varied if is_numeric(sweep.cells[axis])]
    drawings = []
    if len(numeric) == 1 and sweep.cells[numeric[0]].nunique() > 2:
        others = [axis for axis in sweep.varied if axis != numeric[0]]
        if len(_groups(sweep, others)) <= _MOST_LINES:
            drawings.append(draw_curve(sweep, numeric[0]))
    if len(numeric) == 2 and len(sweep.varied) == 2:
        drawings.append(draw_heatmap(sweep, numeric[0], numeric[1]))
    if not drawings or len(sweep.cells) <= _MOST_SIDE_BY_SIDE:
        drawings.append(draw_side_by_side(sweep))
    return drawings


@styled
def draw_curve(sweep: Sweep, axis: str) -> Drawing:
    """Draw IoU against a numeric axis, a line for each setting of the others."""
    others = [other for other in sweep.varied if other != axis]
    axes = style.new_axes(sweep.title, _AXIS_LABELS.get(axis.rpartition(".")[2], axis_name(axis)), _METRIC)
    values = sorted(sweep.cells[axis].dropna().unique())
    ticks = [*values, *([math.nan] if sweep.cells[axis].isna().any() else [])]
    # A limit that is not there ("all prompts") has no place on a scale: then values stand side by side.
    to_scale = len(ticks) == len(values)
    groups = _groups(sweep, others)
    for place, (settings, cells) in enumerate(groups):
        line = cells.sort_values(axis)  # absent values last
        places = line[axis] if to_scale else [len(values) if math.isnan(v) else values.index(v) for v in line[axis]]
        label = ", ".join(filter(None, map(axis_value, others, settings)))
        color = style.COLORS[place]
        axes.fill_between(places, line["low"], line["high"], color=color, alpha=0.3 / (1 + len(groups)), linewidth=0)
        dash, marker = style.DASHES[place], style.MARKERS[place]
        axes.plot(places, line["mean"], color=color, linestyle=dash, marker=marker, label=label)
    if to_scale and values[0] > 0 and values[-1] / values[0] > 12:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values if to_scale else range(len(ticks)), [value_text(axis, value) for value in ticks])
    if others:
        axes.figure.legend(loc="outside upper right", ncols=2)
    style.add_footnote(axes.figure, _footnote(sweep, "band"))
    best = sweep.cells.loc[sweep.cells["mean"].idxmax()]
    return Drawing(
        name=f"curve-{_slug(axis)}",
        title=f"{sweep.title}: IoU against {axis_name(axis)}",
        explanation=f"Mean occlusion IoU for each value of {axis_name(axis)}, with its interval.",
        alt=f"Line of mean occlusion IoU against {axis_name(axis)}; highest {best['mean']:.3f} at "
        f"{value_text(axis, best[axis])}",
        figure=axes.figure,
    )


@styled
def draw_heatmap(sweep: Sweep, across: str, down: str) -> Drawing:
    """Draw IoU over two numeric axes; missing cells stay empty."""
    grid = sweep.cells.pivot(index=down, columns=across, values="mean").sort_index(ascending=False)
    height = 1.5 + 0.42 * len(grid)
    labels = [_AXIS_LABELS.get(axis.rpartition(".")[2], axis_name(axis)) for axis in (across, down)]
    axes = style.new_axes(sweep.title, *labels, height=max(2.4, height))
    axes.grid(visible=False)
    image = axes.imshow(grid.to_numpy(), cmap="cividis", aspect="auto")
    axes.set_xticks(range(grid.shape[1]), [value_text(across, value) for value in grid.columns])
    axes.set_yticks(range(grid.shape[0]), [value_text(down, value) for value in grid.index])
    middle = np.nanmean([np.nanmin(grid), np.nanmax(grid)])
    for row, column in np.ndindex(grid.shape):
        value = grid.iat[row, column]
        if np.isfinite(value):
            shade = "white" if value < middle else "black"
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=shade, fontsize=8.5)
    axes.figure.colorbar(image, ax=axes, label=_METRIC)
    style.add_footnote(axes.figure, f"n = {_n(sweep)} images, {style.seeds_text(len(sweep.seeds))} per cell")
    best = sweep.cells.loc[sweep.cells["mean"].idxmax()]
    return Drawing(
        name=f"heatmap-{_slug(across)}-{_slug(down)}",
        title=f"{sweep.title}: IoU over {axis_name(across)} and {axis_name(down)}",
        explanation="Mean occlusion IoU of each cell; the table tells which differences stand out of their interval.",
        alt=f"Heatmap of mean occlusion IoU; highest {best['mean']:.3f} at {sweep.label(str(best['cell']))}",
        figure=axes.figure,
    )


@styled
def draw_side_by_side(sweep: Sweep) -> Drawing:
    """Draw every cell as a point with its interval, in the order of the table, the base cell marked."""
    cells = sweep.cells.iloc[::-1]
    labels = [sweep.label(str(cell)) for cell in cells.index]
    # Long names need room beside the points.
    width = min(8.0, style.WIDTH + 0.065 * max(0, max(map(len, labels)) - 28))
    axes = style.new_axes(sweep.title, _METRIC, "", width=width, height=1.3 + 0.27 * len(cells))
    places = np.arange(len(cells))
    colors = [style.OCCLUSION if cell == sweep.base else style.FACE for cell in cells.index]
    if sweep.base is not None:
        axes.axvline(sweep.cells.loc[sweep.base, "mean"], color=style.OCCLUSION, linewidth=1, linestyle="--")
    for place, color, (_, cell) in zip(places, colors, cells.iterrows(), strict=True):
        axes.plot([cell["low"], cell["high"]], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
        axes.plot(cell["mean"], place, "o", color=color)
    axes.set_yticks(places, labels)
    axes.set_ylim(-0.7, len(cells) - 0.3)
    axes.grid(visible=False, axis="y")
    style.add_footnote(axes.figure, _footnote(sweep, "bar"))
    base = "" if sweep.base is None else " The dashed line and the orange point are the base cell."
    best = str(sweep.cells["mean"].idxmax())
    return Drawing(
        name="cells",
        title=f"{sweep.title}: all cells",
        explanation=f"Mean occlusion IoU of every cell. Bars overlap even where the paired difference is clear.{base}",
        alt=f"Mean IoU of {len(cells)} cells; highest {sweep.cells.loc[best, 'mean']:.3f}: {sweep.label(best)}",
        figure=axes.figure,
    )


def _groups(sweep: Sweep, axes: list[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Return the cells by the values of these axes, in the order of the table."""
    return list(sweep.cells.groupby(axes, sort=False, dropna=False)) if axes else [((), sweep.cells)]


def _footnote(sweep: Sweep, drawn: str) -> str:
    return (
        f"n = {_n(sweep)} images, {style.seeds_text(len(sweep.seeds))}; {drawn}: 95 % interval over faces and cut-outs"
    )


def _n(sweep: Sweep) -> int:
    return int(sweep.cells["n"].max())


def _slug(axis: str) -> str:
    return axis.rpartition(".")[2].replace("_", "-")
