from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ray_jobs.predict_todo import list_photographs, worst_faces
from s3pot.images import ImageError
from s3pot.photo_masks import PhotoWriting
from s3pot.prediction_table import PredictionTable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs with the results of an earlier prediction among them; what they hold is not looked at."""
    for name in ("a.jpg", "b.png", "sub/c.jpg", "masks/a.jpg.png", "overlays/a.jpg.jpg", "sub/masks/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


class TestListing:
    def test_our_own_masks_are_no_photographs(self, folder: Path) -> None:
        for source in (str(folder), f"file://{folder}", f"{folder}/**/*"):
            ids = list_photographs(source, source.removesuffix("/**/*"))["id"].tolist()
            assert ids == ["a.jpg", "b.png", "sub/c.jpg", "sub/masks/d.jpg"]
        assert len(list_photographs(str(folder), str(folder / "elsewhere"))) == 6
        assert list_photographs(str(folder), str(folder), 2)["id"].tolist() == ["a.jpg", "b.png"]
        with pytest.raises(ImageError, match="no photographs, only masks"):
            list_photographs(str(folder / "masks"), str(folder))

    def test_a_single_photograph_is_called_by_its_name(self, folder: Path) -> None:
        [row] = list_photographs(str(folder / "sub" / "c.jpg"), str(folder)).to_dict("records")
        assert row == {"id": "c.jpg", "path": str(folder / "sub" / "c.jpg"), "bytes": 1}

    @pytest.mark.parametrize("name", ["missing.jpg", "notes.txt"])
    def test_what_is_none_of_them_is_said(self, folder: Path, name: str) -> None:
        (folder / "notes.txt").write_text("no list")
        with pytest.raises(FileNotFoundError, match=name):
            list_photographs(str(folder / name), str(folder))


class TestWorst:
    WRITING = PhotoWriting(out="out", identity="now")
    ITEMS = pd.DataFrame({"id": ["a", "b", "c"], "path": ["a.jpg", "b.jpg", "c.jpg"]})

    def chosen(self, tmp_path: Path, number: int, *rows: dict[str, Any]) -> dict[str, str]:
        table = PredictionTable(str(tmp_path / "out"))
        known = {"face": 1, "status": "ok", "abstained": False, "transductive": False, "identity": "now"}
        table.append([known | row for row in rows])
        found = worst_faces(self.ITEMS, table, self.WRITING, number)
        return dict(zip(found["id"], found["fit"], strict=True))

    def test_faces_of_a_photograph_come_together(self, tmp_path: Path) -> None:
        rows = [
            {"image": "a", "face": 2, "score": 0.1},
            {"image": "a", "face": 1, "score": 0.5},
            {"image": "a", "face": 3, "score": 0.9},
            {"image": "b", "score": 0.4},
            {"image": "c", "score": 0.6},
        ]
        assert self.chosen(tmp_path, 3, *rows) == {"a": "1,2", "b": "1"}

    def test_the_silent_the_failed_and_those_of_others_are_left_out(self, tmp_path: Path) -> None:
        rows = [
            {"image": "a", "score": 0.1, "abstained": True},
            {"image": "a", "face": 2, "status": "failed", "abstained": None},
            {"image": "b", "score": 0.2, "identity": "before"},
            {"image": "other", "score": 0.3},
            {"image": "c", "score": 0.9},
        ]
        assert self.chosen(tmp_path, 5, *rows) == {"c": "1"}

    def test_where_nothing_was_found_there_is_nothing_to_fit(self, tmp_path: Path) -> None:
        assert self.chosen(tmp_path, 2, {"image": "a", "score": 0.0}, {"image": "b", "score": 0.9}) == {"b": "1"}

    def test_the_choice_is_by_the_score_before_fitting(self, tmp_path: Path) -> None:
        rows = [
            {"image": "a", "score": 0.9, "score_before": 0.1, "fitting": "other settings"},
            {"image": "b", "score": 0.2},
        ]
        assert self.chosen(tmp_path, 1, *rows) == {"a": "1"}

    def test_what_was_fitted_counts_and_is_not_fitted_again(self, tmp_path: Path) -> None:
        same = {"transductive": True, "fitting": self.WRITING.fitting.identity}
        rows = [
            {"image": "a", "score": 0.1, "abstained": True, **same},
            {"image": "b", "score": 0.2, **same, "fitting": "other settings"},
            {"image": "c", "score": 0.3},
        ]
        assert self.chosen(tmp_path, 2, *rows) == {"b": "1"}

    def test_none_asked_for(self, tmp_path: Path) -> None:
        assert self.chosen(tmp_path, 0, {"image": "a", "score": 0.1}) == {}
