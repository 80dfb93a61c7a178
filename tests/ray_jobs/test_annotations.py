"""Importing hand-drawn occlusions: masks, manifest, and what happens to broken ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_jobs.annotations import AnnotationsConfig, command, import_annotations
from ray_jobs.encode_inputs import read_items
from ray_jobs.job_cli import PartlyFailed, run_alone
from s3pot.composite.rendering import FOLDERS
from s3pot.config import ConfigError
from s3pot.images import decode_png, encode_jpeg

HEIGHT, WIDTH = 10, 12


def _box(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"label": label, "shape_type": "polygon", "points": points}


def _annotate(folder: Path, name: str, *shapes: dict[str, Any]) -> None:
    (folder / "images" / f"{name}.jpg").write_bytes(encode_jpeg(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)))
    content = {"imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": list(shapes)}
    (folder / "json" / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two annotated pictures, "0042" with an occlusion and "bare" without, and a picture nobody annotated."""
    for name in ("images", "json"):
        (tmp_path / name).mkdir()
    _annotate(tmp_path, "0042", _box("face", 1, 1, 11, 9), _box("occlusion", 0, 0, 4, 3))
    _annotate(tmp_path, "bare", _box("face", 2, 2, 6, 6))
    (tmp_path / "images" / "later.jpg").write_bytes((tmp_path / "images" / "bare.jpg").read_bytes())
    (tmp_path / "index.csv").write_text("id,kept,occluder_kinds\n0042,yes,hand+object\nbare,no,nothing\n")
    return tmp_path


def _config(folder: Path, **changes: Any) -> AnnotationsConfig:
    return AnnotationsConfig(images=folder / "images", annotations=folder / "json", out=folder / "out", **changes)


def _mask(path: str) -> np.ndarray:
    values = decode_png(Path(path).read_bytes())
    assert set(np.unique(values)) <= {0, 255}
    return values > 127


def test_masks_and_manifest(folder: Path) -> None:
    manifest = import_annotations(_config(folder, index=folder / "index.csv"))
    assert list(manifest.columns) == ["id", *FOLDERS, "kind", "face_id", "cutout_id"]
    assert manifest["id"].tolist() == manifest["face_id"].tolist() == ["0042", "bare"]
    assert manifest["kind"].tolist() == ["hand+object", "nothing"]
    assert manifest[["clean_path", "parsing_path", "cutout_id"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(manifest, pd.read_parquet(folder / "out" / "manifest.parquet"), check_dtype=False)
    truth, region = _mask(manifest["truth_path"][0]), _mask(manifest["region_path"][0])
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(truth, expected)
    assert region.sum() == 80
    assert not _mask(manifest["truth_path"][1]).any()


def test_without_an_index_the_kind_says_whether_anything_was_drawn(folder: Path) -> None:
    assert import_annotations(_config(folder))["kind"].tolist() == ["occlusion", "clean"]


def test_encode_takes_the_manifest(folder: Path) -> None:
    import_annotations(_config(folder))
    items = read_items(folder / "out" / "manifest.parquet")
    assert [item["path"] for item in items] == [str(folder / "images" / f"{name}.jpg") for name in ("0042", "bare")]
    assert all(item["clean_path"] is None and item["cutout_id"] is None for item in items)


def test_a_broken_annotation_is_named_and_loses_nothing_else(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "json" / "0042.json").write_text("{")
    (folder / "json" / "orphan.json").write_text("{}")
    with pytest.raises(PartlyFailed, match=r"2 of 3 annotations failed, first: .*0042\.json: is no JSON"):
        import_annotations(_config(folder))
    failed = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(failed) == 2
    assert "orphan.json: no picture of this name" in failed[1]
    assert pd.read_parquet(folder / "out" / "manifest.parquet")["id"].tolist() == ["bare"]


def test_a_broken_picture_is_named_too(folder: Path) -> None:
    (folder / "images" / "bare.jpg").write_bytes(b"no picture")
    with pytest.raises(PartlyFailed, match=r"1 of 2 annotations failed, first: .*bare\.jpg: is no image"):
        import_annotations(_config(folder))


def test_the_exit_status_says_that_something_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "json" / "0042.json").write_text("{")
    words = [f"images={folder / 'images'}", f"annotations={folder / 'json'}", f"out={folder / 'out'}"]
    monkeypatch.setattr("sys.argv", ["annotations.py", *words])
    with pytest.raises(SystemExit) as stopped:
        run_alone(command)
    assert stopped.value.code == 1


def test_two_pictures_of_one_name_are_not_guessed_between(folder: Path) -> None:
    (folder / "images" / "bare.png").write_bytes((folder / "images" / "bare.jpg").read_bytes())
    with pytest.raises(PartlyFailed, match=r"pictures bare\.jpg, bare\.png of this name"):
        import_annotations(_config(folder))


def test_a_picture_that_the_index_does_not_name(folder: Path) -> None:
    (folder / "index.csv").write_text("id,occluder_kinds\nbare,nothing\n")
    with pytest.raises(PartlyFailed, match=r"0042\.json: the index has no row with the id '0042'"):
        import_annotations(_config(folder, index=folder / "index.csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,kinds\n0042,hand\n", "the index lacks the columns occluder_kinds"),
        ("id,occluder_kinds\n0042,hand\n0042,hat\n", "an id stands there twice"),
        ("id,occluder_kinds\n0042,\n", "no occluder_kinds"),
        ("", "cannot be read as CSV"),
    ],
)
def test_an_index_that_cannot_be_used(folder: Path, content: str, message: str) -> None:
    (folder / "index.csv").write_text(content)
    with pytest.raises(ConfigError, match=message):
        import_annotations(_config(folder, index=folder / "index.csv"))


def test_no_annotations(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.json files"):
        import_annotations(AnnotationsConfig(images=folder, annotations=folder / "images", out=folder / "out"))
