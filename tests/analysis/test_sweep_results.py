import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.results import ResultsError
from analysis.sweep_results import (
    axis_name,
    axis_value,
    failed_trials,
    image_means,
    is_numeric,
    paired,
    read_sweep,
    value_text,
)
from tests.analysis.fake_sweep import FE, SA, SELECTOR, cell_id, write_sweep, write_table2

LAM = "objective.lam"


def sweep_folder(tmp_path: Path, **options: object) -> Path:
    return write_sweep(tmp_path / "sweep", {LAM: [0.1, 1.0]}, lambda cell: 0.4 + 0.1 * cell[LAM], **options)


def change(path: Path, **values: object) -> None:
    about = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))


def test_what_a_sweep_says_of_itself(tmp_path: Path) -> None:
    sweep = read_sweep(sweep_folder(tmp_path, title="Weight of the penalty", failed=[1]))
    assert (sweep.title, sweep.axes, sweep.seeds, sweep.metric) == (
        "Weight of the penalty",
        (LAM,),
        (0, 1, 2),
        "iou_face_mask",
    )
    assert sweep.about["evaluated_on"] == "dev"
    assert len(failed_trials(sweep)) == 1
    assert [sweep.label(cell) for cell in sweep.cells.index] == ["λ 0.1", "λ 1"]
    assert sweep.base == cell_id({LAM: 0.1}), "the one cell that differs from nothing"


def test_the_base_that_is_named_counts(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    change(folder / "sweep.json", base=cell_id({LAM: 1.0}))
    assert read_sweep(folder).base == cell_id({LAM: 1.0})
    change(folder / "sweep.json", base="elsewhere")
    assert read_sweep(folder).base is None


def test_a_number_of_an_image_is_its_mean_over_seeds() -> None:
    rows = [("a", 0, 0.2), ("a", 1, 0.4), ("b", 0, 0.9), ("b", 1, math.nan), ("c", 0, 0.5), ("c", 1, 0.5)]
    table = pd.DataFrame(rows, columns=["id", "seed", "iou"]).assign(
        kind="hands", face_id=["f"] * 4 + [None] * 2, cutout_id="x"
    )
    means = image_means(table, "iou")
    assert means.loc["a", "value"] == pytest.approx(0.3)
    assert math.isnan(means.loc["b", "value"]), "a mean over fewer seeds would be another number"
    assert means.loc["c", "face_id"] == "c"


def test_differences_are_paired_over_common_images() -> None:
    def table(values: dict[str, float]) -> pd.DataFrame:
        ids = list(values)
        return pd.DataFrame({"face_id": ids, "cutout_id": ids, "value": list(values.values())}, index=ids)

    first, second = table({"a": 0.5, "b": 0.7, "c": 0.9}), table({"b": 0.6, "c": 0.6, "d": 0.0})
    found = paired(first, second)
    assert (found.n, found.mean) == (2, pytest.approx(0.2))
    assert paired(first, table({"z": 0.1})).n == 0


def test_the_difference_is_that_of_the_cells_table(tmp_path: Path) -> None:
    sweep = read_sweep(sweep_folder(tmp_path))
    base, other = sweep.cells.index
    assert sweep.difference(other, base).mean == pytest.approx(sweep.cells.loc[other, "difference"])
    assert sweep.difference(base, other).mean == pytest.approx(-sweep.cells.loc[other, "difference"])


def test_histories_carry_cell_and_seed(tmp_path: Path) -> None:
    sweep = read_sweep(sweep_folder(tmp_path))
    histories = sweep.histories()
    assert len(histories) == 2 * 3 * 3
    assert sorted(histories["seed"].unique()) == [0, 1, 2]
    last = histories[(histories["seed"] == 2) & (histories["epoch"] == 2)]["total"]
    np.testing.assert_allclose(last, 1 / 3 + 0.02)


def test_names_of_cells_that_settle_an_axis_stand_for_it(tmp_path: Path) -> None:
    folder = write_table2(tmp_path / "sweep")
    cells = pd.read_parquet(folder / "cells.parquet")
    cells["name"] = [f"{row[SELECTOR]}, {'FE' if row[FE] else 'no FE'}" for _, row in cells.iterrows()]
    cells.to_parquet(folder / "cells.parquet")
    sweep = read_sweep(folder)
    assert sweep.varied == ("name", SA)
    assert sweep.label(sweep.cells.index[0]) == "greedy, FE, reweighter on"


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        (LAM, 0.5, "λ 0.5"),
        ("training.learning_rate", 1e-4, "learning rate 0.0001"),
        (FE, np.True_, "FE on"),
        (SA, "off", "reweighter off"),
        (SELECTOR, "greedy", "greedy"),
        ("objective.variant", "paper", "paper"),
        ("chain.prefix.most_prompts", math.nan, "prompts all"),
        ("objective.alpha", math.nan, ""),
        ("head.num_layers", 2, "num layers 2"),
    ],
)
def test_values_are_written_for_readers(axis: str, value: object, text: str) -> None:
    assert axis_value(axis, value) == text


def test_names_and_numbers_of_axes() -> None:
    assert axis_name(SELECTOR) == "selector"
    assert value_text("objective.alpha", None) == "–"
    assert is_numeric([1, 2.5, np.float64(3)])
    assert not is_numeric([True, False])
    assert not is_numeric(["a"])


@pytest.mark.parametrize("name", ["sweep.json", "cells.parquet", "trials.parquet", "images.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = sweep_folder(tmp_path)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing.*s3pot sweep"):
        read_sweep(folder)


def test_damage_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    good = (folder / "sweep.json").read_text()
    for bad in ("{", "[]", '{"axes": "lam"}'):
        (folder / "sweep.json").write_text(bad)
        with pytest.raises(ResultsError, match=r"sweep\.json: damaged.*run the sweep again"):
            read_sweep(folder)
    (folder / "sweep.json").write_text(good)
    change(folder / "sweep.json", metric="prettiness")
    with pytest.raises(ResultsError, match="lacks the column 'prettiness'"):
        read_sweep(folder)
    change(folder / "sweep.json", metric="iou_face_mask", axes=[LAM, "objective.alpha"])
    with pytest.raises(ResultsError, match=r"cells\.parquet lacks the columns objective\.alpha"):
        read_sweep(folder)


def test_tables_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    cells = pd.read_parquet(folder / "cells.parquet")
    cells.iloc[:1].to_parquet(folder / "cells.parquet")
    with pytest.raises(ResultsError, match=r"images\.parquet holds cell .* cells\.parquet does not"):
        read_sweep(folder)
    pd.concat([cells, cells]).to_parquet(folder / "cells.parquet")
    with pytest.raises(ResultsError, match=r"holds cell .* twice"):
        read_sweep(folder)


def test_a_damaged_history_is_named(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path)
    path = next((folder / "trials").glob("*/history.jsonl"))
    path.write_text('{"epoch": 0}\n{"epo')
    with pytest.raises(ResultsError, match=rf"{path.parent.name}/history\.jsonl: damaged"):
        read_sweep(folder).histories()
