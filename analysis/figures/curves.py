"""Objective against epochs or steps: the spread over the seeds of a cell, or over the images of a fleet."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import Drawing, styled
from analysis.sweep_results import Sweep

_MOST_CELLS = 6


@styled
def draw_training(sweep: Sweep, cells: Sequence[str] = ()) -> Drawing | None:
    """Draw the objective per epoch: mean over seeds, band from the lowest to the highest seed.

    Objectives of different variants or terms are different quantities; what can be compared is whether they settle.

    Args:
        sweep: whose trials left histories.
        cells: which; none = the base cell and the first others, six in all.

    Returns:
        None without histories.
    """
    histories = sweep.histories()
    if histories.empty or not {"epoch", "total"} <= set(histories.columns):
        return None
    present = set(histories["cell"])
    order = [*([sweep.base] if sweep.base else []), *sweep.cells.index]
    shown = [cell for cell in dict.fromkeys(cells or order) if cell in present][:_MOST_CELLS]
    axes = style.new_axes(f"{sweep.title}: training", "epoch", "objective (training images)")
    for place, cell in enumerate(shown):
        by_epoch = histories[histories["cell"] == cell].groupby("epoch")["total"]
        epochs, color = by_epoch.mean().index + 1, style.COLORS[place]
        axes.fill_between(epochs, by_epoch.min(), by_epoch.max(), color=color, alpha=0.15, linewidth=0)
        dash, marker = style.DASHES[place], style.MARKERS[place]
        axes.plot(epochs, by_epoch.mean(), color=color, linestyle=dash, marker=marker, label=sweep.label(cell))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    seeds = histories["seed"].nunique()
    style.add_footnote(axes.figure, f"{style.seeds_text(seeds)}; line: mean, band: lowest to highest seed")
    left_out = len(present) - len(shown)
    more = f" {left_out} more cells are not drawn." if left_out > 0 else ""
    return Drawing(
        name="training",
        title=f"{sweep.title}: objective while training",
        explanation="Objective per epoch. Cells with other terms or variants have other objectives: compare shapes."
        + more,
        alt=f"Objective against epoch for {len(shown)} cells",
        figure=axes.figure,
    )


@styled
def draw_overfitting(curves: pd.DataFrame) -> Drawing | None:
    """Draw the objective per step over the images of a fleet: median, quartiles, deciles.

    An image that stopped early keeps its last value, so that every step is over the same images.

    Args:
        curves: id, step, total.

    Returns:
        None without curves.
    """
    if curves.empty:
        return None
    by_step = curves.pivot_table(index="step", columns="id", values="total").sort_index().ffill()
    running = curves.groupby("id")["step"].max()
    steps = by_step.index.to_numpy()
    axes = style.new_axes("Objective while overfitting", "step", "objective of the image")
    for low, high, alpha in ((0.1, 0.9, 0.12), (0.25, 0.75, 0.22)):
        band = by_step.quantile([low, high], axis=1)
        axes.fill_between(steps, band.loc[low], band.loc[high], color=style.FACE, alpha=alpha, linewidth=0)
    axes.plot(steps, by_step.median(axis=1), color=style.FACE, label="median objective")
    still = axes.twinx()
    still.grid(visible=False)
    still.spines["right"].set_visible(True)
    share = np.array([100 * (running >= step).mean() for step in steps])
    still.plot(steps, share, color=style.OCCLUSION, linestyle="--", linewidth=1.2)
    still.set_ylabel("images still running (%)", color=style.OCCLUSION)
    still.set_ylim(0, 104)
    n, median = curves["id"].nunique(), by_step.median(axis=1)
    style.add_footnote(
        axes.figure, f"n = {n} images; line: median, bands: quartiles and deciles; dashed: still running"
    )
    return Drawing(
        name="overfitting",
        title="Objective while overfitting",
        explanation="Objective per step over all images; one that stopped early keeps its last value.",
        alt=f"Median objective from {median.iloc[0]:.3f} to {median.iloc[-1]:.3f} in {steps[-1]:g} steps, {n} images",
        figure=axes.figure,
    )
