from pathlib import Path

import pytest

from analysis.results import ResultsError
from analysis.sweep_results import read_sweep
from analysis.tables import build_table1, build_table2, build_table3
from tests.analysis.fake_results import FakeResults
from tests.analysis.fake_sweep import FE, SA, SELECTOR, write_sweep, write_table2, write_table3


def test_table_1_has_our_numbers_beside_the_papers(results: FakeResults) -> None:
    results.evaluate("standard", {"a": 0.5, "b": 0.7})
    results.evaluate("prompts only", {"a": 0.4, "b": 0.4})
    table = build_table1(results.read())
    assert [row.paper for row in table.rows[:18]][-2:] == [76.2, 80.4]
    standard, per_image, extra = table.rows[16:]
    assert standard.cells == ("Ours (Standard)", "-", "occlusion", "✓", "-")
    assert standard.ours is not None
    assert standard.ours.mean == pytest.approx(0.6)
    assert per_image.ours is None, "what we do not have stays empty"
    assert (extra.cells[0], extra.paper, extra.group) == ("prompts only", None, "measured here only")
    assert all(row.ours is None for row in table.rows[:16])
    assert "n = 2 images" in table.notes[0]
    assert any("transductive" in note for note in table.notes)


def test_table_1_without_truth(results: FakeResults) -> None:
    results.evaluate("standard", {"a": None})
    with pytest.raises(ResultsError, match="no image of the evaluations has a known truth"):
        build_table1(results.read())


def test_table_2_is_in_the_papers_order_then_what_is_ours(tmp_path: Path) -> None:
    table = build_table2(read_sweep(write_table2(tmp_path / "sweep", failed=[0])))
    assert [row.paper for row in table.rows[:8]] == [51.2, 68.3, 17.9, 25.6, 56.9, 34.5, 38.1, 76.2]
    assert table.rows[0].cells == ("-", "-", "-", "✓", "-")
    assert table.rows[2].cells == ("✓", "✓", "-", "-", "-")
    means = [row.ours.mean for row in table.rows if row.ours is not None]
    # What `table2_iou` says, to the noise of the images.
    expected = [0.6, 0.7, 0.25, 0.45, 0.65, 0.3, 0.5, 0.7]
    assert means[:8] == pytest.approx(expected, abs=0.05)
    assert len(table.rows) == 12
    assert [row.group for row in table.rows[7:9]] == ["in the paper", "measured here only"]
    assert "1 of 36 trials failed" in table.notes[1]
    assert table.rows[7].best


def test_a_selector_of_ours_is_named_in_its_column(tmp_path: Path) -> None:
    tau = "chain.prefix.selector.tau"
    grid = {FE: [True], SELECTOR: ["threshold"], SA: ["off"], tau: [0.5, 0.8]}
    table = build_table2(read_sweep(write_sweep(tmp_path / "sweep", grid, lambda cell: cell[tau])))
    assert table.rows[2].ours is not None
    assert table.rows[2].ours.mean == pytest.approx(0.5, abs=0.05)
    [ours] = table.rows[8:]
    assert ours.cells == ("✓", "τ 0.8", "-", "-", "-")
    assert ours.ours is not None
    assert ours.ours.mean == pytest.approx(0.8, abs=0.05)
    assert "another threshold" in table.notes[-1]


def test_a_cell_that_was_not_run_leaves_a_gap(tmp_path: Path) -> None:
    grid = {FE: [True], SELECTOR: ["greedy"], SA: ["on", "off"]}
    table = build_table2(read_sweep(write_sweep(tmp_path / "sweep", grid, lambda cell: 0.5)))
    assert [row.ours is not None for row in table.rows] == [False] * 4 + [True] + [False] * 2 + [True]
    assert {row.group for row in table.rows} == {""}, "nothing of ours alone: one group needs no heading"


def test_table_3(tmp_path: Path) -> None:
    table = build_table3(read_sweep(write_table3(tmp_path / "sweep", seeds=(7,))))
    assert table.columns == ("recall_face", "recall_occ", "face_penalty")
    assert [row.paper for row in table.rows] == [7.54, 16.6, 7.32, 73.5, 7.29, 72.3, 76.2]
    means = [row.ours.mean for row in table.rows if row.ours is not None]
    assert means == pytest.approx([0.2] * 3 + [0.4] * 3 + [0.6], abs=0.05)
    assert "mean over 1 seed," in table.notes[0]
    assert "on dev" in table.notes[0]
