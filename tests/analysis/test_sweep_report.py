from pathlib import Path

import pandas as pd
import pytest

from analysis.results import ResultsError
from analysis.sweep_report import write_sweep_report
from tests.analysis.fake_sweep import FE, SA, SELECTOR, cell_id, write_sweep, write_table2, write_table3
from tests.analysis.html_page import Page, read_page

LAM = "objective.lam"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over Table 2 with a failed trial, and its page."""
    folder = write_table2(tmp_path_factory.mktemp("sweep") / "table2", failed=[3])
    write_sweep_report(folder, folder / "report.html", note="a note")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return read_page(folder / "report.html")


def test_every_cell_is_a_row_beside_the_base(page: Page) -> None:
    assert page.texts[0] == "Table 2"
    for expected in ("a note", "36, 1 failed or missing", "0, 1, 2", "dev", "abc123", "1.5 minutes"):
        assert expected in page.text
    place = page.texts.index("between seeds")
    rows = " ".join(page.texts[place : page.texts.index("Table 2. Feature enhancement (FE) and prompt selection (PS)")])
    assert rows.count("▼ lower") == 10
    assert rows.count("▲ higher") == 0
    assert rows.count("base") == 1


def test_the_papers_table_and_its_orderings(page: Page) -> None:
    assert "measured here only" in page.texts
    assert "56.9 > 25.6" in page.text
    assert page.texts.count("opposite") == 3  # as `table2_iou` makes them
    assert page.texts.count("undecided") == 3


def test_failed_trials_are_named(page: Page) -> None:
    place = page.texts.index("Failed trials")
    assert "diverged" in page.texts[place:]
    assert "FE on, greedy, reweighter off, seed 0" in page.texts[place:]


def test_the_best_cell_is_shown_against_the_base_and_said_to_flatter(page: Page) -> None:
    place = page.texts.index("Images below:")
    assert page.texts[place + 1] == "FE off, greedy, reweighter on"
    assert "so it flatters" in page.text
    assert page.texts[place + 3] == "FE on, greedy, reweighter on"
    assert len(page.all("img")) == 2, "figures alone: no faces"


def test_figures_and_tables_are_files_too(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        "cells.png", "cells.svg", "training.png", "training.svg",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "tables").iterdir()) == ["table2.csv", "table2.md", "table2.tex"]


def test_a_cell_by_id_or_name(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5, 1.0]}, lambda c: c[LAM] / 2)
    cells = pd.read_parquet(folder / "cells.parquet").assign(name=["low", "middle", "high"])
    cells.to_parquet(folder / "cells.parquet")
    out = tmp_path / "report.html"
    for cell in ("middle", cell_id({LAM: 0.5})):
        text = read_page(write_sweep_report(folder, out, cell=cell)).text
        assert "Images below: middle , against the base low" in text
        assert "flatters" not in text
    text = read_page(write_sweep_report(folder, out, cell="low")).text
    assert "Images below: low . Numbers" in text
    with pytest.raises(ResultsError, match=r"0 cells are called 'lowest'; there are .* \(middle\)"):
        write_sweep_report(folder, out, cell="lowest")


def test_the_base_is_never_compared_with_itself(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5, 1.0]}, lambda c: 1.0 - c[LAM] / 2)
    text = read_page(write_sweep_report(folder, tmp_path / "report.html")).text
    assert "Images below: λ 0.5 , of the other cells the one with the highest mean" in text
    assert "against the base λ 0.1" in text


def test_numbers_of_the_list_are_means_over_seeds(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5]}, lambda c: c[LAM])
    page = read_page(write_sweep_report(folder, tmp_path / "report.html"))
    table = pd.read_parquet(folder / "images.parquet")
    means = table.groupby(["cell", "id"])["iou_face_mask"].mean()
    best, base = (means[cell_id({LAM: lam}), "000"] for lam in (0.5, 0.1))
    assert f"000 hands ok {best:.3f} {base:.3f} {best - base:+.3f}" in page.text


def test_another_experiment_has_no_table_of_the_paper(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5]}, lambda c: 0.5)
    page = read_page(write_sweep_report(folder, tmp_path / "out" / "report.html"))
    assert "Orderings" not in page.texts
    assert not (tmp_path / "out" / "tables").exists()
    page = read_page(write_sweep_report(write_table3(tmp_path / "three"), tmp_path / "out" / "three.html"))
    assert page.texts.count("agrees") == 6


def test_a_cell_whose_trials_all_failed_leaves_gaps(tmp_path: Path) -> None:
    grid = {FE: [True], SELECTOR: ["greedy", "otsu"], SA: ["off"]}
    folder = write_sweep(tmp_path / "sweep", grid, lambda c: 0.5, seeds=(0,))
    lost = cell_id({FE: True, SELECTOR: "otsu", SA: "off"})
    cells = pd.read_parquet(folder / "cells.parquet").set_index("cell", drop=False)
    numbers = ["mean", "low", "high", "difference", "difference_low", "difference_high"]
    cells.loc[lost, numbers] = float("nan")
    cells.loc[lost, "n"] = 0
    cells.to_parquet(folder / "cells.parquet", index=False)
    images = pd.read_parquet(folder / "images.parquet")
    images[images["cell"] != lost].to_parquet(folder / "images.parquet")
    page = read_page(write_sweep_report(folder, tmp_path / "report.html"))
    assert "Images below: greedy" in page.text
    assert "nan" not in page.text


def test_a_sweep_without_any_number(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {LAM: [0.1, 0.5]}, lambda c: 0.5)
    cells = pd.read_parquet(folder / "cells.parquet").assign(mean=float("nan"))
    cells.to_parquet(folder / "cells.parquet")
    with pytest.raises(ResultsError, match="no cell has a number yet: run the sweep again"):
        write_sweep_report(folder, tmp_path / "report.html")
