"""Figures of the paper and of our reports, on matplotlib; each module owns a family."""

from analysis.figures.cells import draw_cells, draw_curve, draw_heatmap, draw_side_by_side
from analysis.figures.curves import draw_overfitting, draw_training
from analysis.figures.enhancement import (
    choose_examples,
    draw_examples,
    draw_precision_density,
    draw_similarity_densities,
)
from analysis.figures.gains import draw_before_after, draw_gains
from analysis.figures.style import Drawing, write_drawings

__all__ = [
    "Drawing",
    "choose_examples",
    "draw_before_after",
    "draw_cells",
    "draw_curve",
    "draw_examples",
    "draw_gains",
    "draw_heatmap",
    "draw_overfitting",
    "draw_precision_density",
    "draw_side_by_side",
    "draw_similarity_densities",
    "draw_training",
    "write_drawings",
]
