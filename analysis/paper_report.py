"""Tables 1-3 of the paper with our numbers on one page, and as files to put into a README or a paper."""

from collections.abc import Mapping
from pathlib import Path

from analysis.ladder_results import read_methods
from analysis.orderings import Ordering, method_orderings, selection_orderings, terms_orderings
from analysis.page import made_where, write_page
from analysis.sweep_results import read_sweep
from analysis.table_formats import orderings_to_markdown, write_table
from analysis.tables import PaperTable, build_table1, build_table2, build_table3
from analysis.whole_files import write_whole


def write_paper_report(
    out: Path,
    *,
    title: str,
    note: str = "",
    table1: Mapping[str, Path] | None = None,
    table2: Path | None = None,
    table3: Path | None = None,
) -> Path:
    """Write the page, and `tables/table<n>.md`, `.csv`, `.tex` and `tables/orderings.md` beside it.

    Args:
        out: HTML file.
        title: heading.
        note: what a reader must know first.
        table1: evaluation, fleet or ladder folders by the key of a row in `paper_numbers.TABLE_1` (`standard`,
            `per_image`) or a name of their own.
        table2: sweep over feature enhancement, selector and reweighter.
        table3: sweep over the terms of the objective.

    Returns:
        `out`.

    Raises:
        FileNotFoundError: if a folder holds no results.
        ResultsError: if they are damaged, or a sweep has other axes.
    """
    tables: list[PaperTable] = []
    orderings: list[Ordering] = []
    if table1:
        evaluations = read_methods(table1)
        tables.append(build_table1(evaluations))
        orderings += method_orderings(evaluations)
    if table2 is not None:
        sweep = read_sweep(table2)
        tables.append(build_table2(sweep))
        orderings += selection_orderings(sweep)
    if table3 is not None:
        sweep = read_sweep(table3)
        tables.append(build_table3(sweep))
        orderings += terms_orderings(sweep)
    for table in tables:
        write_table(table, out.parent / "tables")
    if orderings:
        write_whole(out.parent / "tables" / "orderings.md", orderings_to_markdown(orderings))
    return write_page(
        "paper.html.j2",
        out,
        title=title,
        note=note,
        facts=made_where(),
        images=False,
        tables=tables,
        orderings=orderings,
    )
