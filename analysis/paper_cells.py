"""Which cells of a sweep stand for the rows of the paper's Tables 2 and 3."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.paper_numbers import SelectionRow, TermsRow
from analysis.results import ResultsError
from analysis.sweep_results import Sweep

# Ends of the dotted key of an axis, by what it means here.
_AXES = {
    "enhanced": "feature_enhancement",
    "selector": "selector.kind",
    "reweighted": "reweighter",
    "recall_face": "recall_face",
    "recall_occlusion": "recall_occlusion",
    "face_penalty": "face_penalty",
}
# What the paper keeps fixed in a row; other values are settings of our own.
_PAPER_TAU = 0.5
# The default of a store's chain; named cells need not say it.
_DEFAULT_SELECTOR = "greedy"


@dataclass(frozen=True, kw_only=True)
class PaperCells:
    """The cells of a sweep, sorted.

    Attributes:
        printed: cell by the key of a row, `selection_key` or `terms_key`.
        others: cells with a selector of our own, such as a threshold tuned on dev: its key and what is different.
    """

    printed: dict[tuple[Any, ...], str]
    others: dict[str, tuple[tuple[Any, ...], str]]


def selection_cells(sweep: Sweep) -> PaperCells:
    """Return the cell of every (FE, selector, reweighter) of a sweep of Table 2.

    Raises:
        ResultsError: if an axis is missing, or two cells stand for one row.
    """
    axes = [_axis(sweep, name) for name in ("enhanced", "selector", "reweighted")]
    return _sorted(sweep, axes, {cell: _selector_of_ours(sweep, cell) for cell in sweep.cells.index})


def terms_cells(sweep: Sweep) -> PaperCells:
    """Return the cell of every (recall_face, recall_occlusion, face_penalty) of a sweep of Table 3.

    Raises:
        ResultsError: if an axis is missing, or two cells stand for one row.
    """
    axes = [_axis(sweep, name) for name in ("recall_face", "recall_occlusion", "face_penalty")]
    return _sorted(sweep, axes, dict.fromkeys(sweep.cells.index, ""))


def selection_key(row: SelectionRow) -> tuple[bool, str, bool]:
    """Return the row's key in `selection_cells`."""
    return row.enhanced, row.selector, row.reweighted


def terms_key(row: TermsRow) -> tuple[bool, bool, bool]:
    """Return the row's key in `terms_cells`."""
    return row.recall_face, row.recall_occlusion, row.face_penalty


def _sorted(sweep: Sweep, axes: Sequence[str], different: Mapping[str, str]) -> PaperCells:
    printed: dict[tuple[Any, ...], str] = {}
    others: dict[str, tuple[tuple[Any, ...], str]] = {}
    for cell, words in different.items():
        key = tuple(_meaning(axis, sweep.cells.loc[cell, axis]) for axis in axes)
        if words:
            others[cell] = (key, words)
            continue
        if key in printed:
            raise ResultsError(
                f"{sweep.folder}: the cells {sweep.label(printed[key])!r} and {sweep.label(cell)!r} stand for one row "
                "of the paper's table: sweep nothing else beside its axes"
            )
        printed[key] = cell
    return PaperCells(printed=printed, others=others)


def _selector_of_ours(sweep: Sweep, cell: str) -> str:
    """Say what a cell's selector has that the paper's does not: another threshold, centred tokens; empty = nothing."""
    words = []
    for axis in sweep.axes:
        value = sweep.cells.loc[cell, axis]
        if value is None or value != value:
            continue
        if axis.endswith("selector.tau") and value != _PAPER_TAU:
            words.append(f"τ {value:g}")
        if axis.endswith("selector.centered") and bool(value):
            words.append("centred")
    return ", ".join(words)


def _axis(sweep: Sweep, name: str) -> str:
    for axis in sweep.axes:
        if axis == _AXES[name] or axis.endswith(f".{_AXES[name]}"):
            return axis
    raise ResultsError(
        f"{sweep.folder}: no axis ends in {_AXES[name]} (it has {', '.join(sweep.axes)}): "
        "name a sweep of experiments/table2.yaml or experiments/table3.yaml"
    )


def _meaning(axis: str, value: Any) -> bool | str:
    if axis.endswith("selector.kind"):
        return str(value) if isinstance(value, str) else _DEFAULT_SELECTOR
    return value == "on" if isinstance(value, str) else bool(value)
