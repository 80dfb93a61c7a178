from pathlib import Path

import pytest

from analysis.paper_report import write_paper_report
from analysis.results import ResultsError
from tests.analysis.fake_results import FakeResults
from tests.analysis.fake_sweep import write_table2, write_table3
from tests.analysis.html_page import read_page


def test_all_three_tables_on_one_page_and_as_files(results: FakeResults) -> None:
    results.evaluate("standard", {"a": 0.5, "b": 0.7})
    results.evaluate("per_image", {"a": 0.6, "b": 0.8})
    out = results.root / "paper" / "report.html"
    sweeps = {name: write(results.root / name) for name, write in (("table2", write_table2), ("table3", write_table3))}
    page = read_page(write_paper_report(out, title="Tables", note="on dev", table1=results.evaluations, **sweeps))
    assert "SegFace*" in page.text
    assert "Ours (Per-Image) - occlusion ✓ - 80.4 70.0 [" in page.text
    heads = [text for text in page.texts if text.startswith("Table ") and ":" not in text]
    assert [head.split(".")[0] for head in heads] == ["Table 1", "Table 2", "Table 3"]
    assert "80.4 > 76.2" in page.text
    files = sorted(path.name for path in (out.parent / "tables").iterdir())
    assert files == ["orderings.md", *sorted(f"table{n}.{kind}" for n in (1, 2, 3) for kind in ("md", "csv", "tex"))]
    assert (out.parent / "tables" / "orderings.md").read_text().count("\n") == 2 + 1 + 20 + 6


def test_only_the_tables_that_were_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "paper" / "report.html"
    page = read_page(write_paper_report(out, title="Tables", table3=write_table3(tmp_path / "three")))
    assert "Table 1" not in page.text
    assert sorted(path.name for path in (out.parent / "tables").iterdir()) == [
        "orderings.md",
        "table3.csv",
        "table3.md",
        "table3.tex",
    ]


def test_a_sweep_in_the_wrong_place(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no axis ends in feature_enhancement"):
        write_paper_report(tmp_path / "report.html", title="Tables", table2=write_table3(tmp_path / "three"))
    assert not (tmp_path / "report.html").exists()
