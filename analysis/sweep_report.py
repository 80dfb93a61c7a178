"""The page about a sweep: cells, table and orderings where its axes are the paper's, figures, images of a cell."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from analysis.cell_masks import evaluated_store, write_cell_masks
from analysis.figures import draw_cells, draw_training, write_drawings
from analysis.gallery import Gallery
from analysis.orderings import Ordering, selection_orderings, terms_orderings
from analysis.page import made_where, write_page
from analysis.results import Evaluation, ResultsError
from analysis.sweep_results import NAME, Sweep, axis_name, failed_trials, read_sweep, value_text
from analysis.table_formats import write_table
from analysis.tables import PaperTable, build_table2, build_table3
from s3pot.metrics import METRIC_COLUMNS, Interval

_FAILURES_LISTED = 50


def write_sweep_report(
    folder: Path,
    out: Path,
    *,
    title: str = "",
    note: str = "",
    pictures: int = 24,
    images: bool = False,
    cell: str | None = None,
) -> Path:
    """Write the page of a sweep.

    Args:
        folder: of the sweep.
        out: HTML file; figures go to `figures/`, tables of the paper to `tables/` beside it.
        title: heading; empty = the sweep's.
        note: what a reader must know first.
        pictures: at most this many images are shown.
        images: embed pictures of faces; masks of the two cells are decoded for them with the heads of the first seed.
        cell: whose images are shown against the base cell, by its id or name; None = that with the highest mean.

    Returns:
        `out`.

    Raises:
        FileNotFoundError: if a file of the sweep is missing.
        ResultsError: if one is damaged, or there is no such cell.
    """
    sweep = read_sweep(folder)
    shown = _chosen(sweep, cell)
    tables, orderings = paper_tables(sweep)
    for table in tables:
        write_table(table, out.parent / "tables")
    training = draw_training(sweep)
    drawings = [*draw_cells(sweep), *([training] if training is not None else [])]
    write_drawings(drawings, out.parent / "figures")
    with TemporaryDirectory() as scratch:
        evaluations = [cell_evaluation(sweep, one, Path(scratch) / one) for one in shown]
        store = evaluated_store(sweep, shown[-1]) if images else None
        gallery = Gallery(store=store, evaluations=evaluations)
        if store is not None:
            ids = [image_id for section in gallery.sections(pictures) for image_id in section.ids]
            for one, evaluation in zip(shown, evaluations, strict=True):
                write_cell_masks(sweep, one, ids, evaluation.folder)
        return write_page(
            "sweep.html.j2",
            out,
            drawings=drawings,
            title=title or sweep.title,
            note=note,
            facts=made_where() | _facts(sweep),
            sweep=sweep,
            rows=_rows(sweep, shown),
            heads=["cell" if axis == NAME else axis_name(axis) for axis in _columns(sweep)],
            tables=tables,
            orderings=orderings,
            shown=[sweep.label(one) for one in shown],
            best_chosen=cell is None,
            failures=_failures(sweep),
            failures_listed=_FAILURES_LISTED,
            **gallery.values(pictures=pictures, images=images),
        )


def paper_tables(sweep: Sweep) -> tuple[list[PaperTable], list[Ordering]]:
    """Return the table of the paper whose axes a sweep has, and whether the paper's orderings hold in it."""
    for build, order in ((build_table2, selection_orderings), (build_table3, terms_orderings)):
        try:
            return [build(sweep)], order(sweep)
        except ResultsError:
            continue  # another experiment
    return [], []


def cell_evaluation(sweep: Sweep, cell: str, folder: Path) -> Evaluation:
    """Return a cell as an evaluation: every number of an image is its mean over seeds.

    Args:
        sweep: the sweep.
        cell: one of its cells.
        folder: where masks of it are looked for.
    """
    rows = sweep.images[sweep.images["cell"] == cell]
    texts = [name for name in ("id", "status", "error", "kind", "face_id", "cutout_id") if name in rows.columns]
    numbers = [name for name in METRIC_COLUMNS if name in rows.columns]
    grouped = rows.groupby("id", sort=True)
    found = grouped[[name for name in texts if name != "id"]].first().join(grouped[numbers].mean())
    images = found.assign(id=found.index).reindex(
        columns=["id", "status", "error", "kind", "face_id", "cutout_id", *METRIC_COLUMNS]
    )
    images[list(METRIC_COLUMNS)] = images[list(METRIC_COLUMNS)].astype(float)
    return Evaluation(name=sweep.label(cell), folder=folder, images=images, config="")


def _chosen(sweep: Sweep, cell: str | None) -> list[str]:
    """Return the cells whose images are shown: the base, when there is one, and the chosen one."""
    measured = sweep.cells["mean"].dropna()
    if measured.empty:
        raise ResultsError(f"{sweep.folder}: no cell has a number yet: run the sweep again, it goes on where it was")
    if cell is None:
        others = measured.drop(index=[sweep.base], errors="ignore")
        chosen = str((others if len(others) else measured).idxmax())
    else:
        named = sweep.cells.index[(sweep.cells.index == cell) | (sweep.cells[NAME] == cell)]
        if len(named) != 1:
            known = "; ".join(f"{one} ({sweep.label(str(one))})" for one in sweep.cells.index)
            raise ResultsError(f"{sweep.folder}: {len(named)} cells are called {cell!r}; there are {known}")
        chosen = str(named[0])
    return [*([sweep.base] if sweep.base not in (None, chosen) else []), chosen]


def _columns(sweep: Sweep) -> tuple[str, ...]:
    return sweep.varied or sweep.axes


def _rows(sweep: Sweep, shown: list[str]) -> list[dict[str, Any]]:
    """Return the rows of the table of cells."""
    rows = []
    for cell, row in sweep.cells.iterrows():
        rows.append(
            {
                "values": [value_text(axis, row[axis]) for axis in _columns(sweep)],
                "mean": _interval(row, "mean", "low", "high"),
                "difference": None
                if cell == sweep.base
                else _interval(row, "difference", "difference_low", "difference_high"),
                "seeds": row.get("seeds", len(sweep.seeds)),
                "deviation": float(row.get("seed_deviation", float("nan"))),
                "is_base": cell == sweep.base,
                "is_shown": cell == shown[-1],
            }
        )
    return rows


def _interval(row: pd.Series, mean: str, low: str, high: str) -> Interval:
    values = [float(row.get(name, float("nan"))) for name in (mean, low, high)]
    n = 0 if values[0] != values[0] else int(row["n"])
    return Interval(mean=values[0], low=values[1], high=values[2], n=n, level=0.95)


def _failures(sweep: Sweep) -> list[tuple[str, str, str]]:
    failed = failed_trials(sweep)
    errors = failed["error"] if "error" in failed.columns else pd.Series(None, index=failed.index, dtype=object)
    return [
        (str(trial), f"{sweep.label(row['cell'])}, seed {row['seed']}", _sentence(row["status"], errors[trial]))
        for trial, row in failed.iterrows()
    ]


def _sentence(status: str, error: Any) -> str:
    return error if isinstance(error, str) and error else f"{status}: no error was recorded"


def _facts(sweep: Sweep) -> Mapping[str, str]:
    trials = len(sweep.trials)
    facts = {
        "Sweep": sweep.folder.name,
        "Cells": str(len(sweep.cells)),
        "Trials": f"{trials}, {len(failed_trials(sweep))} failed or missing",
        "Seeds": ", ".join(map(str, sweep.seeds)) or "none",
        "Evaluated on": str(sweep.about.get("evaluated_on", "unknown")),
        "Code": str(sweep.about.get("code", "unknown")),
    }
    if "seconds" in sweep.about:
        facts["Wall time"] = f"{float(sweep.about['seconds']) / 60:.1f} minutes"
    return facts
