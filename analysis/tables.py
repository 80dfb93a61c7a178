"""Tables 1-3 of the paper in its layout, our number with its interval beside the paper's.

The two are not measured on the same pictures: the paper's are 1,293 real CelebA-HQ faces, ours whatever the evaluation
or sweep was run on. What can be compared is the order of rows (`orderings.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.paper_cells import selection_cells, selection_key, terms_cells, terms_key
from analysis.paper_numbers import TABLE_1, TABLE_2, TABLE_3
from analysis.results import Evaluation, ResultsError, numbers_table
from analysis.sweep_results import Sweep, failed_trials
from s3pot.metrics import Interval

YES, NO = "✓", "-"
_IN_PAPER, _OURS_ONLY = "in the paper", "measured here only"
_SELECTORS = ("threshold", "otsu", "greedy")
_COMPARED = "The paper's numbers are of its own test pictures: compare the order of rows, not numbers across columns."


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row.

    Attributes:
        cells: what stands in the columns before the numbers.
        paper: the paper's occlusion IoU in percent; None: the paper has no such row.
        ours: our mean occlusion IoU as a share; None: not measured.
        group: heading that the row stands under; empty without groups.
        best: whether the paper prints it in bold, as it does its last rows.
    """

    cells: tuple[str, ...]
    paper: float | None
    ours: Interval | None
    group: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper with our numbers.

    Attributes:
        name: `table1` and so on: the file's name.
        title: as in the paper.
        columns: headings before the numbers.
        rows: in the paper's order, then what only we measured.
        notes: what a reader of the numbers must know.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


def build_table1(evaluations: Sequence[Evaluation]) -> PaperTable:
    """Make Table 1, results against previous methods.

    Args:
        evaluations: named by the key of a row of `paper_numbers.TABLE_1`, such as `standard` and `per_image`; others
            become rows of their own.

    Raises:
        ResultsError: if no image has truth.
    """
    numbers = numbers_table(evaluations)
    if numbers is None:
        raise ResultsError("table 1: no image of the evaluations has a known truth")
    ours = {row.name: row.headline for row in numbers.rows}
    rows = [
        TableRow(
            cells=(row.method, row.venue, row.target, _mark(row.trained), _mark(row.supervised)),
            paper=row.iou,
            ours=ours.get(row.key),
            group=row.group,
        )
        for row in TABLE_1
    ]
    printed = {row.key for row in TABLE_1}
    # Whether such a method saw our data or our truth is not ours to guess.
    rows += [
        TableRow(cells=(name, NO, "occlusion", "", ""), paper=None, ours=value, group=_OURS_ONLY)
        for name, value in ours.items()
        if name not in printed
    ]
    kinds = ", ".join(numbers.kinds)
    scope = f"means over the occluder kinds {kinds}" if kinds else "means over occluded images"
    n = max(value.n for value in ours.values())
    return PaperTable(
        name="table1",
        title="Table 1. Comparison with previous methods",
        columns=("Method", "Venue", "Seg. target", "TR", "SPV"),
        rows=tuple(rows),
        notes=(
            f"Ours: {scope}, n = {n} images, 95 % intervals over faces and cut-outs. {_COMPARED}",
            "TR: trained on the paper's data. SPV: supervised. *: trained with the truth of the paper's data.",
            "Per-Image is transductive: each head has seen the image it is judged on, without its truth.",
            *numbers.caveats,
        ),
    )


def build_table2(sweep: Sweep) -> PaperTable:
    """Make Table 2, feature enhancement and prompt selection.

    Raises:
        ResultsError: if the sweep lacks the axes.
    """
    found = selection_cells(sweep)
    printed = {selection_key(row): row for row in TABLE_2}
    rows = [
        TableRow(
            cells=_selection_marks(key),
            paper=row.iou,
            ours=_of_cell(sweep, found.printed.get(key)),
            best=row is TABLE_2[-1],
        )
        for key, row in printed.items()
    ]
    ours = [(_selection_marks(key), cell) for key, cell in found.printed.items() if key not in printed]
    ours += [(_selection_marks(key, words), cell) for cell, (key, words) in found.others.items()]
    if ours:
        rows = [replace(row, group=_IN_PAPER) for row in rows]
    rows += [TableRow(cells=cells, paper=None, ours=_of_cell(sweep, cell), group=_OURS_ONLY) for cells, cell in ours]
    return PaperTable(
        name="table2",
        title="Table 2. Feature enhancement (FE) and prompt selection (PS)",
        columns=("FE", "TH", "Otsu", "GS", "SA"),
        rows=tuple(rows),
        notes=(
            *_sweep_notes(sweep),
            "TH: threshold 0.5, GS: greedy matching, SA: reweighter."
            + (" τ: another threshold; centred: the mean token is subtracted first." if found.others else ""),
        ),
    )


def build_table3(sweep: Sweep) -> PaperTable:
    """Make Table 3, the terms of the objective.

    Raises:
        ResultsError: if the sweep lacks the axes.
    """
    cells = terms_cells(sweep).printed
    rows = [
        TableRow(
            cells=tuple(map(_mark, terms_key(row))),
            paper=row.iou,
            ours=_of_cell(sweep, cells.get(terms_key(row))),
            best=row is TABLE_3[-1],
        )
        for row in TABLE_3
    ]
    return PaperTable(
        name="table3",
        title="Table 3. Terms of the objective",
        columns=("recall_face", "recall_occ", "face_penalty"),
        rows=tuple(rows),
        notes=_sweep_notes(sweep),
    )


def _of_cell(sweep: Sweep, cell: str | None) -> Interval | None:
    if cell is None:
        return None
    row = sweep.cells.loc[cell]
    return Interval(
        mean=float(row["mean"]), low=float(row["low"]), high=float(row["high"]), n=int(row["n"]), level=0.95
    )


def _selection_marks(key: tuple[bool, str, bool], words: str = YES) -> tuple[str, ...]:
    """Mark what a row uses; `words` stand for the mark of a selector that is not the paper's."""
    enhanced, selector, reweighted = key
    return (_mark(enhanced), *(words if selector == name else NO for name in _SELECTORS), _mark(reweighted))


def _sweep_notes(sweep: Sweep) -> tuple[str, ...]:
    n, seeds = sweep.cells["n"].max(), len(sweep.seeds)
    where = sweep.about.get("evaluated_on", "unknown pictures")
    missing = len(failed_trials(sweep))
    lost = (f"{missing} of {len(sweep.trials)} trials failed or were not run: their cells are means over fewer seeds.",)
    return (
        f"Ours: {sweep.title}, on {where}, n = {n} images, mean over {seeds} seed{'s' if seeds != 1 else ''}, "
        f"95 % intervals over faces and cut-outs. {_COMPARED}",
        *(lost if missing else ()),
    )


def _mark(value: bool) -> str:
    return YES if value else NO
