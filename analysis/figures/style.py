"""One look for every figure, and the files they become.

Figures are drawn on `matplotlib.figure.Figure` alone: no pyplot, no window, no global state but the style that
`styled` sets while a figure is drawn. Colours are those of Okabe and Ito, told apart by colour-blind readers, and lines
differ in marker and dash as well. Meanings are those of the page: vermilion = occlusion, blue = face, green = truth.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.whole_files import write_whole

FACE, OCCLUSION, TRUTH = "#0072B2", "#D55E00", "#009E73"
INK, QUIET, LINE = "#1c2126", "#5b6672", "#dde2e7"
COLORS = (FACE, OCCLUSION, TRUTH, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
WIDTH, HEIGHT = 5.2, 3.5  # inches: text stays readable when a phone shows 5.2 inches on 360 px
_DPI = 160

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.5,
    "text.color": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "s3pot",  # the same figure is the same file
}
styled = matplotlib.rc_context(_STYLE)
"""Decorator of whatever draws: the style holds while it does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A figure and what is said about it.

    Attributes:
        name: stem of its files.
        title: what it shows.
        explanation: how to read it; the page prints it below.
        alt: what it shows, for a reader who cannot see it.
        figure: drawn.
        faces: whether it shows pictures of faces, which are biometric data.
    """

    name: str
    title: str
    explanation: str
    alt: str
    figure: Figure
    faces: bool = False

    @cached_property
    def svg(self) -> bytes:
        """The file as SVG, text as outlines: it looks the same without our fonts."""
        return _saved(self.figure, format="svg", metadata={"Date": None})

    @cached_property
    def png(self) -> bytes:
        """The file as PNG."""
        return _saved(self.figure, format="png", dpi=_DPI, metadata={"Software": None})


@styled
def new_axes(title: str, x_label: str, y_label: str, *, width: float = WIDTH, height: float = HEIGHT) -> Axes:
    """Return the only axes of a new figure; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


@styled
def add_footnote(figure: Figure, text: str) -> None:
    """Write n, seeds and intervals below the axes, so that they travel with the file."""
    figure.supxlabel(text, fontsize=8, color=QUIET, x=0.02, ha="left")


def write_drawings(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write `<name>.png` and `<name>.svg` of each; returns their paths."""
    paths = []
    for drawing in drawings:
        paths.append(write_whole(folder / f"{drawing.name}.png", drawing.png))
        paths.append(write_whole(folder / f"{drawing.name}.svg", drawing.svg))
    return paths


def seeds_text(seeds: int) -> str:
    """Write how many seeds: `3 seeds`."""
    return f"{seeds} seed{'' if seeds == 1 else 's'}"


@styled
def _saved(figure: Figure, **options: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, **options)
    return out.getvalue()
