from pathlib import Path

import pandas as pd
import pytest

from analysis.ladder_results import read_methods
from tests.analysis.fake_results import FakeResults


def test_a_ladder_is_a_row_per_rung(results: FakeResults, tmp_path: Path) -> None:
    plain = results.evaluate("plain", {"a": 0.5, "b": 0.6})
    table = pd.read_parquet(plain / "per_image.parquet")
    rungs = [
        table.assign(rung=rung, head=head, iou_face_mask=value)
        for rung, head, value in (("true_prompts", "none", 0.9), ("chain", "none", 0.5), ("chain", "reweighter", 0.6))
    ]
    (tmp_path / "ladder").mkdir()
    pd.concat(rungs).to_parquet(tmp_path / "ladder" / "per_image.parquet")
    found = read_methods({"standard": plain, "ladder": tmp_path / "ladder"})
    assert [one.name for one in found] == [
        "standard",
        "ladder: true prompts",
        "ladder: chain",
        "ladder: chain, reweighter",
    ]
    assert [one.images["iou_face_mask"].mean() for one in found] == pytest.approx([0.55, 0.9, 0.5, 0.6])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"standard: .*per_image\.parquet is missing: make it with `s3pot evaluate`"
    ):
        read_methods({"standard": tmp_path})
