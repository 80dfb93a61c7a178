"""Paper tables as Markdown, CSV and LaTeX. Numbers are percent, as the paper prints them."""

import csv
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from analysis.orderings import Ordering
from analysis.tables import NO, YES, PaperTable, TableRow
from analysis.whole_files import write_whole
from s3pot.metrics import Interval

PAPER, OURS = "paper", "ours"
_ABSENT = "–"
_LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "*": r"$^{*}$", "–": "--", YES: r"\checkmark"})


def write_table(table: PaperTable, folder: Path) -> list[Path]:
    """Write `<name>.md`, `.csv` and `.tex`; returns their paths."""
    contents = {"md": to_markdown(table), "csv": to_csv(table), "tex": to_latex(table)}
    return [write_whole(folder / f"{table.name}.{suffix}", text) for suffix, text in contents.items()]


def to_markdown(table: PaperTable) -> str:
    """Write a GitHub table with its notes."""
    width = len(table.columns)
    lines = [f"**{table.title}**, occlusion IoU in percent", ""]
    lines.append(_piped([*table.columns, PAPER, OURS]))
    lines.append(_piped([*["---"] * width, "---:", "---:"]))
    for group, rows in itertools.groupby(table.rows, key=lambda row: row.group):
        if group:
            lines.append(_piped([f"*{group}*", *[""] * (width + 1)]))
        lines += [
            _piped([*map(_escaped, row.cells), _bold(row, paper_text(row.paper)), ours_text(row.ours)]) for row in rows
        ]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def to_csv(table: PaperTable) -> str:
    """Write one line per row; absent numbers are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", *table.columns, PAPER, OURS, "low", "high", "n"])
    for row in table.rows:
        cells = ["yes" if cell == YES else "no" if cell == NO else cell for cell in row.cells]
        writer.writerow([row.group, *cells, "" if row.paper is None else row.paper, *_numbers(row.ours)])
    return out.getvalue()


def to_latex(table: PaperTable) -> str:
    """Write a table environment; it needs booktabs and amssymb."""
    columns = "l" * len(table.columns) + "rr"
    heads = " & ".join([*(_tex(name) for name in table.columns), "paper", "ours"])
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rf"{heads} \\"]
    for group, rows in itertools.groupby(table.rows, key=lambda row: row.group):
        lines.append(r"\midrule")
        if group:
            lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{_tex(group)}}}}} \\")
        for row in rows:
            paper = _tex(paper_text(row.paper))
            paper = rf"\textbf{{{paper}}}" if row.best else paper
            lines.append(" & ".join([*map(_tex, row.cells), paper, _tex(ours_text(row.ours))]) + r" \\")
    notes = _tex(" ".join(table.notes))
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(table.title)}. {notes}}}", r"\end{table}", ""]
    return "\n".join(lines)


def orderings_to_markdown(orderings: Sequence[Ordering]) -> str:
    """Write which claims of the paper ours agrees with, as a GitHub table."""
    lines = [_piped(["claim", "setting", "paper", "difference here", "n", "ours"]), _piped(["---"] * 6)]
    for one in orderings:
        paper = _ABSENT if one.paper is None else f"{paper_text(one.paper[0])} > {paper_text(one.paper[1])}"
        value = one.difference
        bounds = f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"
        cells = [_escaped(one.claim), one.setting, paper, bounds, str(value.n), one.verdict]
        lines.append(_piped(cells))
    return "\n".join([*lines, ""])


def paper_text(iou: float | None) -> str:
    """Write the paper's number with the digits it prints."""
    return _ABSENT if iou is None else f"{iou:g}"


def ours_text(value: Interval | None) -> str:
    """Write our number with its interval: `71.8 [68.0, 75.2]`."""
    if value is None or value.n == 0 or math.isnan(value.mean):
        return _ABSENT
    if math.isnan(value.low):
        return f"{100 * value.mean:.1f}"  # nothing to resample: one face and one cut-out
    return f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _numbers(value: Interval | None) -> list[str | int]:
    if value is None or value.n == 0:
        return ["", "", "", ""]
    shares = (value.mean, value.low, value.high)
    return [*("" if math.isnan(share) else f"{100 * share:.2f}" for share in shares), value.n]


def _bold(row: TableRow, text: str) -> str:
    return f"**{text}**" if row.best else text


def _piped(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|").replace("*", r"\*")


def _tex(text: str) -> str:
    return text.translate(_LATEX)
