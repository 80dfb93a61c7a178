import csv
import io
import math
from pathlib import Path

from analysis.orderings import Ordering
from analysis.table_formats import (
    orderings_to_markdown,
    ours_text,
    paper_text,
    to_csv,
    to_latex,
    to_markdown,
    write_table,
)
from analysis.tables import PaperTable, TableRow
from s3pot.metrics import Interval


def interval(mean: float, low: float, high: float, n: int = 12) -> Interval:
    return Interval(mean=mean, low=low, high=high, n=n, level=0.95)


TABLE = PaperTable(
    name="table9",
    title="Table 9. Things & others",
    columns=("Method", "SA"),
    rows=(
        TableRow(cells=("LISA*", "-"), paper=6.47, ours=None, group="face_parsing"),
        TableRow(cells=("Ours", "✓"), paper=76.2, ours=interval(0.7184, 0.68, 0.7525), group="face_parsing", best=True),
        TableRow(cells=("a|b_c", ""), paper=None, ours=interval(0.5, math.nan, math.nan, 1), group="ours"),
    ),
    notes=("95 % intervals",),
)


def test_markdown() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "**Table 9. Things & others**, occlusion IoU in percent",
        "",
        "| Method | SA | paper | ours |",
        "| --- | --- | ---: | ---: |",
        "| *face_parsing* |  |  |  |",
        "| LISA\\* | - | 6.47 | – |",
        "| Ours | ✓ | **76.2** | 71.8 [68.0, 75.2] |",
        "| *ours* |  |  |  |",
        "| a\\|b_c |  | – | 50.0 |",
        "",
        "- 95 % intervals",
    ]


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    absent = dict.fromkeys(("ours", "low", "high", "n"), "")
    assert rows[0] == {"group": "face_parsing", "Method": "LISA*", "SA": "no", "paper": "6.47"} | absent
    assert (rows[1]["SA"], rows[1]["ours"], rows[1]["low"], rows[1]["n"]) == ("yes", "71.84", "68.00", "12")
    assert (rows[2]["Method"], rows[2]["paper"], rows[2]["low"]) == ("a|b_c", "", "")


def test_latex_escapes_what_it_must() -> None:
    text = to_latex(TABLE)
    assert r"LISA$^{*}$ & - & 6.47 & -- \\" in text
    assert r"Ours & \checkmark & \textbf{76.2} & 71.8 [68.0, 75.2] \\" in text
    assert r"\multicolumn{4}{l}{\emph{face\_parsing}} \\" in text
    assert r"Things \& others. 95 \% intervals" in text
    assert r"a|b\_c" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {3}
    assert text.count(r"\begin") == text.count(r"\end") == 2


def test_numbers_have_the_digits_of_the_paper() -> None:
    assert [paper_text(value) for value in (7.54, 76.2, 80.0, None)] == ["7.54", "76.2", "80", "–"]
    assert ours_text(interval(math.nan, math.nan, math.nan, 0)) == "–"


def test_files(tmp_path: Path) -> None:
    paths = write_table(TABLE, tmp_path / "tables")
    assert [path.name for path in paths] == ["table9.md", "table9.csv", "table9.tex"]
    assert paths[0].read_text(encoding="utf-8") == to_markdown(TABLE)


def test_orderings_as_markdown() -> None:
    known = Ordering(claim="GS > Otsu", setting="FE", paper=(56.9, 25.6), difference=interval(-0.2, -0.3, -0.1))
    alone = Ordering(claim="FE helps", setting="TH", paper=None, difference=interval(0.01, -0.02, 0.04))
    lines = orderings_to_markdown([known, alone]).splitlines()
    assert lines[2] == "| GS > Otsu | FE | 56.9 > 25.6 | -20.0 [-30.0, -10.0] | 12 | opposite |"
    assert lines[3] == "| FE helps | TH | – | +1.0 [-2.0, +4.0] | 12 | undecided |"
