"""Methods of Table 1 from folders: one evaluation each, and a row per rung of an oracle ladder."""

from collections.abc import Mapping
from pathlib import Path

from analysis.results import Evaluation, evaluation_of, read_evaluation, read_table

_RUNG_COLUMNS = ("rung", "head")


def read_methods(folders: Mapping[str, Path]) -> list[Evaluation]:
    """Read folders that `evaluate`, `overfit` or `ladder` wrote.

    Args:
        folders: by name; the rungs of a ladder are called `<name>: <rung>`, with its head when it has one.

    Raises:
        FileNotFoundError: if a folder holds no per-image table.
        ResultsError: if the table is damaged.
    """
    found: list[Evaluation] = []
    for name, folder in folders.items():
        table = read_table(
            folder / "per_image.parquet", ("id", "status"), "make it with `s3pot evaluate`", what=f"{name}: "
        )
        if not set(_RUNG_COLUMNS) <= set(table.columns):
            found.append(read_evaluation(name, folder))
            continue
        for (rung, head), rows in table.groupby(list(_RUNG_COLUMNS), sort=False):
            with_head = "" if head == "none" else f", {head}"
            found.append(evaluation_of(f"{name}: {str(rung).replace('_', ' ')}{with_head}", folder, rows))
    return found
