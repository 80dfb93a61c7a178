from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.results import ResultsError
from ray_jobs.compare import CompareConfig, compare

KINDS = ["hands", "hands", "hands", "masks", "masks", None]


def write(folder: Path, values: list[float], **columns: object) -> Path:
    """A result of six images: three hands, two masks, one without truth; each a face and a cut-out of its own."""
    folder.mkdir()
    ids = [f"image{number}" for number in range(6)]
    table = pd.DataFrame({"id": ids, "kind": KINDS, "face_id": ids, "cutout_id": ids, "iou_face_mask": values})
    table.assign(**columns).to_parquet(folder / "per_image.parquet")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    nan = float("nan")
    return (
        write(tmp_path / "first", [0.5, 0.6, 0.7, 0.2, 0.4, nan]),
        write(tmp_path / "second", [0.4, 0.4, 0.4, 0.3, 0.5, nan]),
    )


def test_means_and_differences_by_kind(results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table = compare(CompareConfig(first=results[0], second=results[1], apart="hands")).set_index("group")
    assert table["n"].to_dict() == {"all": 5, "hands": 3, "masks": 2, "not hands": 2}
    np.testing.assert_allclose(table.loc["hands", ["first", "second", "difference"]].tolist(), [0.6, 0.4, -0.2])
    np.testing.assert_allclose(table.loc["masks", ["first", "second", "difference"]].tolist(), [0.3, 0.4, 0.1])
    np.testing.assert_allclose(table.loc["all", "difference"], (-0.6 + 0.2) / 5)
    assert table.loc["not hands", "difference"] == table.loc["masks", "difference"]
    # All resampled differences of hands lie between the smallest and the largest one.
    low, high = table.loc["hands", ["low", "high"]].tolist()
    assert -0.3 - 1e-9 <= low < -0.2 < high <= -0.1 + 1e-9
    assert table["clear"].to_dict() == {"all": False, "hands": True, "masks": True, "not hands": True}
    assert "not hands" in capsys.readouterr().out


def test_images_are_joined_by_id_and_not_by_order(results: tuple[Path, Path]) -> None:
    path = results[1] / "per_image.parquet"
    expected = compare(CompareConfig(first=results[0], second=results[1]))
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    pd.testing.assert_frame_equal(compare(CompareConfig(first=results[0], second=results[1])), expected)


def test_of_a_ladder_one_rung_and_head_is_taken(results: tuple[Path, Path], tmp_path: Path) -> None:
    flat = compare(CompareConfig(first=results[0], second=results[1]))
    for folder in results:
        table = pd.read_parquet(folder / "per_image.parquet").assign(rung="true_prompts", head="none")
        other = table.assign(rung="chain", iou_face_mask=0.0)
        pd.concat([other, table, table.assign(head="reweighter", iou_face_mask=1.0)]).to_parquet(
            folder / "per_image.parquet"
        )
    found = compare(CompareConfig(first=results[0], second=results[1], rung="true_prompts"))
    pd.testing.assert_frame_equal(found, flat)


def test_other_images_are_refused(results: tuple[Path, Path]) -> None:
    path = results[1] / "per_image.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(ResultsError, match="not on the same images: 1 are in one alone, such as image0"):
        compare(CompareConfig(first=results[0], second=results[1]))


def test_what_is_not_there_is_named(results: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"gone.per_image\.parquet: no such table"):
        compare(CompareConfig(first=results[0], second=tmp_path / "gone"))
    with pytest.raises(ResultsError, match="lacks boundary_f"):
        compare(CompareConfig(first=results[0], second=results[1], metric="boundary_f"))
    with pytest.raises(ResultsError, match="no image has the kind 'hats': choose one of hands, masks"):
        compare(CompareConfig(first=results[0], second=results[1], apart="hats"))
