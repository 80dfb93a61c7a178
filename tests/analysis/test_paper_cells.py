from pathlib import Path

import pytest

from analysis.paper_cells import selection_cells, selection_key, terms_cells, terms_key
from analysis.paper_numbers import TABLE_2, TABLE_3
from analysis.results import ResultsError
from analysis.sweep_results import read_sweep
from tests.analysis.fake_sweep import FE, SA, SELECTOR, TERMS, cell_id, write_sweep, write_table2, write_table3

TAU, CENTERED = "chain.prefix.selector.tau", "chain.prefix.selector.centered"


def test_every_row_of_the_paper_has_its_cell(tmp_path: Path) -> None:
    found = selection_cells(read_sweep(write_table2(tmp_path / "table2")))
    for row in TABLE_2:
        values = {FE: row.enhanced, SELECTOR: row.selector, SA: "on" if row.reweighted else "off"}
        assert found.printed[selection_key(row)] == cell_id(values)
    assert (len(found.printed), found.others) == (12, {})
    terms = terms_cells(read_sweep(write_table3(tmp_path / "table3")))
    for row in TABLE_3:
        key = terms_key(row)
        assert terms.printed[key] == cell_id(dict(zip(TERMS, key, strict=True)))


def test_selectors_that_the_paper_does_not_have_stand_apart(tmp_path: Path) -> None:
    cells = [
        {FE: True, SELECTOR: "threshold", SA: "off", TAU: 0.5, CENTERED: None},
        {FE: True, SELECTOR: "threshold", SA: "off", TAU: 0.8, CENTERED: None},
        {FE: True, SELECTOR: "greedy", SA: "off", TAU: None, CENTERED: None},
        {FE: True, SELECTOR: "greedy", SA: "off", TAU: None, CENTERED: True},
        {FE: True, SELECTOR: "otsu", SA: "off", TAU: None, CENTERED: False},
    ]
    axes: dict[str, list[object]] = {FE: [], SELECTOR: [], SA: [], TAU: [], CENTERED: []}
    found = selection_cells(read_sweep(write_sweep(tmp_path / "sweep", axes, lambda cell: 0.5, cells=cells)))
    assert found.printed == {
        (True, "threshold", False): cell_id(cells[0]),
        (True, "greedy", False): cell_id(cells[2]),
        (True, "otsu", False): cell_id(cells[4]),
    }
    assert found.others == {
        cell_id(cells[1]): ((True, "threshold", False), "τ 0.8"),
        cell_id(cells[3]): ((True, "greedy", False), "centred"),
    }


def test_two_cells_for_one_row_are_refused(tmp_path: Path) -> None:
    grid = {FE: [True], SELECTOR: ["greedy"], SA: ["on"], "objective.lam": [0.1, 0.5]}
    sweep = read_sweep(write_sweep(tmp_path / "sweep", grid, lambda cell: 0.5))
    with pytest.raises(ResultsError, match=r"'λ 0\.1' and 'λ 0\.5' stand for one row"):
        selection_cells(sweep)


def test_another_experiment_is_said_to_be_one(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "sweep", {"objective.lam": [0.1, 0.5]}, lambda cell: 0.5))
    with pytest.raises(ResultsError, match=r"no axis ends in feature_enhancement \(it has objective\.lam\)"):
        selection_cells(sweep)
    with pytest.raises(ResultsError, match="no axis ends in recall_face"):
        terms_cells(sweep)
