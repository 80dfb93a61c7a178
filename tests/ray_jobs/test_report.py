"""The report as a job."""

from pathlib import Path
from typing import Any

import pytest

from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.report import ReportConfig, report
from s3pot.store.prompt_store import PromptStore
from tests.analysis.fake_sweep import write_fleet, write_sweep, write_table2, write_table3


def test_pictures_only_when_asked(astronaut_store: PromptStore, tmp_path: Path) -> None:
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, head="none", runs=tmp_path))
    evaluations = {"greedy": folder}
    shy = report(ReportConfig(store=astronaut_store.root, evaluations=evaluations, out=tmp_path / "shy.html"))
    assert "<img" not in shy.read_text()
    config = ReportConfig(store=astronaut_store.root, evaluations=evaluations, out=tmp_path / "full.html", images=True)
    assert report(config).read_text().count("<img") >= 5 * 7


def test_a_sweep_and_a_fleet_get_their_page_in_their_folder(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", {"objective.lam": [0.1, 0.5]}, lambda cell: 0.5)
    fleet = write_fleet(tmp_path / "fleet")
    assert report(ReportConfig(sweep=sweep)) == sweep / "report.html"
    assert report(ReportConfig(fleet=fleet)) == fleet / "report.html"
    assert "<title>Overfitted heads: fleet</title>" in (fleet / "report.html").read_text()
    assert (sweep / "figures" / "cells.svg").is_file()
    assert report(ReportConfig(sweep=sweep, title="Mine", out=tmp_path / "mine.html")) == tmp_path / "mine.html"
    assert "<title>Mine</title>" in (tmp_path / "mine.html").read_text()


def test_tables_of_the_paper(tmp_path: Path) -> None:
    two, three = write_table2(tmp_path / "two"), write_table3(tmp_path / "three")
    path = report(ReportConfig(table2=two, table3=three, out=tmp_path / "paper" / "report.html"))
    assert path.is_file()
    assert (tmp_path / "paper" / "tables" / "table3.tex").is_file()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name one of store, sweep, fleet.*got none"),
        ({"store": Path("a"), "sweep": Path("b")}, "got store, sweep"),
        ({"fleet": Path("a"), "table2": Path("b")}, "got fleet, tables"),
        ({"sweep": Path("a"), "evaluations": {"x": Path("b")}}, "evaluations has no meaning with sweep"),
        ({"store": Path("a"), "cell": "x"}, "cell has no meaning with store"),
        ({"fleet": Path("a"), "contrast": True}, "contrast has no meaning with fleet"),
    ],
)
def test_a_page_is_about_one_thing(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReportConfig(**values)


def test_a_fleet_may_come_with_another_store() -> None:
    assert ReportConfig(fleet=Path("a"), store=Path("b")).store == Path("b")
