"""The numbers are held against the text of the paper itself, where it is there."""

import re
from pathlib import Path

import pytest

from analysis.paper_numbers import TABLE_1, TABLE_2, TABLE_3


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[list[str]]:
    """Every tab-separated row of the paper that ends in a number."""
    text = (shared_data.parent / "paper.md").read_text(encoding="utf-8")
    plain = [re.sub(r"</?\w+>", "", line) for line in text.splitlines() if "\t" in line]
    cells = [[cell.strip() for cell in line.split("\t")] for line in plain]
    return [row for row in cells if re.fullmatch(r"\d+\.\d+", row[-1])]


def marks(row: list[str]) -> list[bool]:
    return [cell == "✓" for cell in row[:-1]]


def test_table_1(rows: list[list[str]]) -> None:
    printed = [row for row in rows if len(row) == 6 and row[0] not in ("✓", "-")]
    assert len(printed) == len(TABLE_1) == 18
    for row, ours in zip(printed, TABLE_1, strict=True):
        method, venue, target, trained, supervised, iou = row
        # The reference is not part of the name; the star is.
        assert re.sub(r" ?\[\d+\]", "", method) == ours.method
        assert (venue, target, float(iou)) == (ours.venue, ours.target, ours.iou)
        assert (trained == "✓", supervised == "✓") == (ours.trained, ours.supervised)
    assert len({row.key for row in TABLE_1}) == len(TABLE_1)


def test_table_2(rows: list[list[str]]) -> None:
    printed = [
        (marks(row), float(row[-1])) for row in rows if len(row) == 6 and row[3] in ("✓", "-") and row[0] in ("✓", "-")
    ]
    ours = [
        ([row.enhanced, *(row.selector == name for name in ("threshold", "otsu", "greedy")), row.reweighted], row.iou)
        for row in TABLE_2
    ]
    assert printed == ours


def test_table_3(rows: list[list[str]]) -> None:
    printed = [(marks(row), float(row[-1])) for row in rows if len(row) == 4 and row[0] in ("✓", "-")]
    assert printed == [([row.recall_face, row.recall_occlusion, row.face_penalty], row.iou) for row in TABLE_3]
