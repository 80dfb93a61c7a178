import math
from pathlib import Path

import pandas as pd
import pytest

from analysis.results import ResultsError, numbers_table, read_evaluation
from tests.analysis.fake_results import FakeResults


def test_a_folder_without_table_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'greedy'.*per_image\.parquet is missing.*s3pot evaluate"):
        read_evaluation("greedy", tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"status": ["ok"]}), "lacks the columns id"),
        (pd.DataFrame({"id": ["a", "b", "a"], "status": ["ok"] * 3}), "holds 'a' twice"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    table.to_parquet(tmp_path / "per_image.parquet")
    with pytest.raises(ResultsError, match=message):
        read_evaluation("greedy", tmp_path)


def test_no_parquet_at_all(tmp_path: Path) -> None:
    (tmp_path / "per_image.parquet").write_bytes(b"not parquet")
    with pytest.raises(ResultsError, match="cannot be read"):
        read_evaluation("greedy", tmp_path)


def test_missing_columns_become_absent_values(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["b", "a"], "status": ["ok", "failed"]}).to_parquet(tmp_path / "per_image.parquet")
    evaluation = read_evaluation("masks", tmp_path)
    assert evaluation.images["id"].tolist() == ["a", "b"]
    assert evaluation.images["iou_face_mask"].isna().all()
    assert not evaluation.has_truth
    assert evaluation.config == ""


def test_numbers_are_those_of_the_tables(results: FakeResults) -> None:
    results.evaluate("greedy", {"a": 0.2, "b": 0.4, "c": math.nan})
    results.evaluate("overfit", {"a": 0.5, "b": 0.5, "c": math.nan})
    table = numbers_table(results.read())
    assert table is not None
    greedy, overfit = table.rows
    assert (greedy.name, overfit.name) == ("greedy", "overfit")
    assert greedy.headline.mean == pytest.approx(0.3)
    assert greedy.headline.n == 2
    assert greedy.headline.low <= 0.3 <= greedy.headline.high
    assert greedy.values["false_positive_area"].n == 1
    assert greedy.values["precision"].mean == pytest.approx(0.5)
    assert greedy.values["false_positive_area"].mean == pytest.approx(1.5)
    assert greedy.values["auroc"].mean == 1.0
    assert greedy.values["prompt_recall"].n == 0
    assert greedy.difference is None
    assert overfit.difference is not None
    assert overfit.difference.mean == pytest.approx(0.2)
    assert [value.mean for value in table.by_kind["objects"]] == pytest.approx([0.3, 0.5])
    assert (table.kinds, table.caveats) == ((), ())


def test_with_ten_cut_outs_the_means_run_over_kinds(results: FakeResults) -> None:
    results.evaluate("greedy", {f"{number}": 0.5 for number in range(10)})
    table = numbers_table(results.read())
    assert table is not None
    assert table.kinds == ("objects",)
    # Another row that cannot be averaged over kinds: then no row is.
    results.evaluate("overfit", {"0": 0.5})
    table = numbers_table(results.read())
    assert table is not None
    assert table.kinds == ()
    assert table.rows[0].headline.n == 10


def test_the_difference_is_paired_over_common_images(results: FakeResults) -> None:
    results.evaluate("greedy", {"a": 0.1, "b": 0.9})
    results.evaluate("overfit", {"b": 0.95})
    table = numbers_table(results.read())
    assert table is not None
    assert table.rows[1].difference is not None
    assert table.rows[1].difference.mean == pytest.approx(0.05)
    assert any("do not cover the same images" in caveat for caveat in table.caveats)


def test_without_truth_there_is_no_table(results: FakeResults) -> None:
    results.evaluate("greedy", {"a": None, "b": None})
    assert numbers_table(results.read()) is None
    assert numbers_table([]) is None


def test_unknown_truth_beside_known_does_not_enter_the_numbers(results: FakeResults) -> None:
    known = {f"known-{number}": 0.5 for number in range(10)}
    results.evaluate("mixed", known | {f"unknown-{number}": None for number in range(12)})
    table = numbers_table(results.read())
    assert table is not None
    assert table.kinds == ("objects",)
    assert table.rows[0].headline.mean == pytest.approx(0.5)
    assert list(table.by_kind) == ["objects"]


def test_an_evaluation_without_truth_keeps_its_row(results: FakeResults) -> None:
    results.evaluate("measured", {"a": 0.5})
    results.evaluate("unmeasured", {"a": None})
    table = numbers_table(results.read())
    assert table is not None
    assert table.rows[1].headline.n == 0
    assert table.rows[1].difference is not None
    assert table.rows[1].difference.n == 0


def test_failures_and_missing_face_ids_are_said(results: FakeResults) -> None:
    folder = results.evaluate("greedy", {"a": 0.5, "b": 0.5})
    table = pd.read_parquet(folder / "per_image.parquet")
    table.loc[len(table)] = {"id": "c", "status": "failed", "error": "truncated"}
    table["face_id"] = None
    table.to_parquet(folder / "per_image.parquet")
    numbers = numbers_table(results.read())
    assert numbers is not None
    assert numbers.rows[0].headline.n == 2
    assert any("2 images carry no face id" in caveat for caveat in numbers.caveats)
    assert "Failed images are not in the numbers: greedy 1." in numbers.caveats
