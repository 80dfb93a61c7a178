"""Judging the screen from evaluation folders."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.results import ResultsError
from ray_jobs.screen_quality import ScreenQualityConfig, judge


def _evaluation(folder: Path, scores: list[float], truth: float, kinds: list[str]) -> Path:
    folder.mkdir()
    numbers = range(len(scores))
    table = pd.DataFrame(
        {
            "id": [f"{number}" for number in numbers],
            "status": "ok",
            "kind": kinds,
            "face_id": [f"f{number}" for number in numbers],
            "cutout_id": [f"c{number}" if truth else None for number in numbers],
            "truth_pixels": truth,
            "occlusion_score": scores,
        }
    )
    table.to_parquet(folder / "per_image.parquet")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    occluded = _evaluation(tmp_path / "occluded", [0.9, 0.5, 0.3, 0.1], 40.0, ["hands"] * 4)
    clean = _evaluation(tmp_path / "clean", [0.0, 0.4, 0.8], 0.0, ["clean", "clean", "decoy"])
    return occluded, clean


def test_two_folders_are_judged_together(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    occluded, clean = folders
    out = tmp_path / "quality.json"
    quality = judge(ScreenQualityConfig(occluded=occluded, clean=clean, threshold=0.3, shares=(0.5,), out=out))
    assert quality.recall.mean == 3 / 4
    assert quality.false_positive_rate.mean == 1 / 2
    # Won against 0 and 0.4: 0.9 and 0.5 twice, 0.3 and 0.1 once.
    assert quality.auroc.mean == 6 / 8
    printed = capsys.readouterr().out
    assert "recall at a score of 0.3" in printed
    assert "precision, 66.7% occluded                    0.750 [" in printed
    assert "precision, 50.0% occluded                    0.600 [" in printed
    assert json.loads(out.read_text())["AUROC"][0] == 0.75


def test_decoys_count_when_asked(folders: tuple[Path, Path]) -> None:
    occluded, clean = folders
    quality = judge(ScreenQualityConfig(occluded=occluded, clean=clean, threshold=0.3, decoys=True))
    assert quality.false_positive_rate.mean == pytest.approx(2 / 3)


def test_occluded_images_alone_give_recall_alone(
    folders: tuple[Path, Path], random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A head without a threshold never abstains: every score above 0 is named.
    assert judge(ScreenQualityConfig(occluded=folders[0])).recall.mean == 1.0
    assert capsys.readouterr().out.count("\n") == 1


def test_what_cannot_be_judged(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such table"):
        judge(ScreenQualityConfig(occluded=tmp_path))
    with pytest.raises(ResultsError, match="known to be occluded"):
        judge(ScreenQualityConfig(occluded=folders[1], threshold=0.1))
    with pytest.raises(ValueError, match="shares"):
        ScreenQualityConfig(occluded=tmp_path, shares=(1.0,))
