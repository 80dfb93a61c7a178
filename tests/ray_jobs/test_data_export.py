"""Masks handed out to annotators and other tools, and read back."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ray_jobs.data_export import ExportConfig, export, plan
from ray_jobs.data_import import ImportConfig, import_data
from ray_jobs.job_cli import PartlyFailed
from s3pot.config import ConfigError
from s3pot.data.annotation import LabelRoles
from s3pot.data.manifest import FILE, read_manifest, write_manifest
from s3pot.images import decode_png, encode_jpeg, write_png

SIZE = (90, 120)
IDS = ("a", "deep/b", "c.jpg", "free", "gone", "broken")
SCORES = {"a": 0.9, "deep/b": 0.02, "c.jpg": 0.05, "free": 0.0, "gone": 0.02, "broken": 0.02}


def occlusion_of(name: str) -> np.ndarray:
    """Blobs with holes and islands, another for every name; nothing for "free"."""
    rng = np.random.default_rng(IDS.index(name))
    mask = ndimage.gaussian_filter(rng.standard_normal(SIZE), 3) > 0.04
    mask[30:60, 30:80] = True
    mask[38:52, 38:72] = False
    mask[42:48, 48:60] = True
    return mask & (name != "free")


def region() -> np.ndarray:
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot((rows - 45) / 40, (cols - 60) / 50) < 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of six pictures, one of which failed and one lost its mask, and a manifest with truth and region."""
    rows, table = [], []
    write_png(tmp_path / "region.png", region().astype(np.uint8) * 255)
    for name in IDS:
        picture = tmp_path / "photos" / (name if name.endswith(".jpg") else f"{name}.jpg")
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(encode_jpeg(np.full((*SIZE, 3), 100, np.uint8)))
        status = "failed" if name == "broken" else "ok"
        table.append({"id": name, "path": str(picture), "status": status, "occlusion_score": SCORES[name], "x": 1.0})
        truth = tmp_path / "truth" / f"{name}.png"
        if name not in ("gone", "broken"):
            write_png(tmp_path / "run" / "masks" / f"{name}.png", occlusion_of(name).astype(np.uint8) * 255)
            write_png(truth, (occlusion_of(name) & region()).astype(np.uint8) * 255)
        known = truth if truth.exists() else None
        rows.append({"id": name, "path": picture, "truth_path": known, "region_path": tmp_path / "region.png"})
    pd.DataFrame(table).to_parquet(tmp_path / "run" / "per_image.parquet")
    write_manifest(tmp_path / "data", rows)
    return tmp_path


def config(folder: Path, **changes: Any) -> ExportConfig:
    return ExportConfig(**({"masks": folder / "run", "out": folder / "out"} | changes))


def index(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "index.csv").open() as opened:
        return list(csv.DictReader(opened))


def mask(path: Any) -> np.ndarray:
    return decode_png(Path(path).read_bytes()) > 127


def imported(folder: Path, **settings: Any) -> pd.DataFrame:
    return import_data(ImportConfig(out=folder / "again", **settings)).set_index("id")


def iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


@pytest.mark.parametrize("pictures", [False, True])
def test_masks_of_a_run_come_back_from_annotations(folder: Path, pictures: bool) -> None:
    export(config(folder, pictures=pictures))
    images = None if pictures else folder / "photos"
    settings = {"format": "labelme", "images": images, "annotations": folder / "out"}
    again = imported(folder, **settings, roles=LabelRoles(face=()))
    assert set(again.index) == {"a", "deep/b", "c.jpg", "free"}, "under the ids they had"
    for name, row in again.iterrows():
        assert iou(mask(row["truth_path"]), occlusion_of(str(name))) >= 0.98, name
        assert Path(row["path"]).is_relative_to(folder / ("out" if pictures else "photos"))
    assert [float(row["iou"]) >= 0.98 for row in index(folder)] == [True] * 4
    assert not mask(again["truth_path"]["free"]).any()


def test_truth_of_a_manifest_comes_back_with_its_region(folder: Path) -> None:
    export(config(folder, masks=folder / "data" / FILE, tolerance=2.0))
    again = imported(folder, format="labelme", images=folder / "photos", annotations=folder / "out")
    assert len(again) == 4
    for name, row in again.iterrows():
        truth = occlusion_of(str(name)) & region()
        assert iou(mask(row["truth_path"]), truth) >= 0.98, name
        assert iou(mask(row["region_path"]), region()) >= 0.98, name


def test_annotators_find_the_annotation_beside_its_picture(folder: Path) -> None:
    export(config(folder, pictures=True))
    assert sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*.j*")) == [
        "a.jpg",
        "a.json",
        "c.jpg",
        "c.json",
        "deep/b.jpg",
        "deep/b.json",
        "free.jpg",
        "free.json",
    ]
    content = json.loads((folder / "out" / "deep" / "b.json").read_text())
    assert content["imagePath"] == "b.jpg"
    assert {shape["label"] for shape in content["shapes"]} == {"occlusion", "hole"}
    grouped = {shape["group_id"] for shape in content["shapes"] if shape["label"] == "hole"}
    assert None not in grouped
    assert grouped <= {shape["group_id"] for shape in content["shapes"] if shape["label"] == "occlusion"}


def test_a_corrected_annotation_is_what_comes_back(folder: Path) -> None:
    export(config(folder, pictures=True))
    path = folder / "out" / "free.json"
    content = json.loads(path.read_text())
    content["shapes"].append({"label": "occlusion", "shape_type": "rectangle", "points": [[10, 20], [30, 40]]})
    path.write_text(json.dumps(content))
    again = imported(folder, format="labelme", annotations=folder / "out", roles=LabelRoles(face=()))
    expected = np.zeros(SIZE, dtype=bool)
    expected[20:40, 10:30] = True
    np.testing.assert_array_equal(mask(again["truth_path"]["free"]), expected)


def test_coco_is_exact(folder: Path) -> None:
    export(config(folder, masks=folder / "data" / FILE, format="coco"))
    settings = {"format": "coco", "images": folder / "photos", "annotations": folder / "out" / "annotations.json"}
    again = imported(folder, **settings)
    assert set(again.index) == {"a", "deep/b", "c.jpg", "free"}
    for name, row in again.iterrows():
        np.testing.assert_array_equal(mask(row["truth_path"]), occlusion_of(str(name)) & region())
        np.testing.assert_array_equal(mask(row["region_path"]), region())


def test_png(folder: Path) -> None:
    export(config(folder, format="png"))
    assert [row["file"] for row in index(folder)] == ["a.png", "c.jpg.png", "deep/b.png", "free.png"]
    np.testing.assert_array_equal(mask(folder / "out" / "deep" / "b.png"), occlusion_of("deep/b"))


def test_a_bare_folder_of_masks_takes_names_from_a_manifest(folder: Path) -> None:
    masks = folder / "run" / "masks"
    with pytest.raises(ConfigError, match="is needed to name the pictures, such as that of 'a'"):
        export(config(folder, masks=masks))
    export(config(folder, masks=masks, manifest=folder / "data" / FILE))
    content = json.loads((folder / "out" / "a.json").read_text())
    assert {"face", "occlusion"} <= {shape["label"] for shape in content["shapes"]}
    write_png(masks / "stranger.png", np.zeros(SIZE, dtype=np.uint8))
    with pytest.raises(ConfigError, match="has no row with the id 'stranger'"):
        export(config(folder, masks=masks, manifest=folder / "data" / FILE))


def test_the_least_certain_come_first(folder: Path) -> None:
    export(config(folder, order="uncertain", threshold=0.03, format="png"))
    assert [row["id"] for row in index(folder)] == ["deep/b", "c.jpg", "a", "free"]
    assert [int(row["rank"]) for row in index(folder)] == [1, 2, 3, 4]
    export(config(folder, order="uncertain", threshold=0.06, format="png", limit=1, out=folder / "few"))
    assert sorted(path.name for path in (folder / "few").rglob("*.png")) == ["c.jpg.png"]
    export(config(folder, order="uncertain", by="occlusion_score", format="png"))
    assert [row["id"] for row in index(folder)] == ["a", "c.jpg", "deep/b", "free"]


def test_the_threshold_is_that_of_the_run_s_head(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="threshold: is needed"):
        export(config(folder, order="uncertain"))
    (folder / "run" / "config.yaml").write_text(f"head: {folder / 'head.safetensors'}\n")
    (folder / "head.safetensors").touch()
    monkeypatch.setattr("ray_jobs.data_export.read_abstention_threshold", lambda path: 0.06 if path.exists() else 9.0)
    export(config(folder, order="uncertain", format="png"))
    assert index(folder)[0]["id"] == "c.jpg"
    (folder / "run" / "config.yaml").write_text("head: none\n")
    with pytest.raises(ConfigError, match="names no head"):
        export(config(folder, order="uncertain"))


def test_there_is_no_order_without_a_run(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"uncertain needs a run with per_image\.parquet"):
        export(config(folder, masks=folder / "data" / FILE, order="uncertain", threshold=0.1))
    with pytest.raises(ConfigError, match="no column entropy"):
        export(config(folder, order="uncertain", by="entropy"))


def test_a_damaged_mask_fails_and_the_others_are_written(folder: Path) -> None:
    (folder / "run" / "masks" / "a.png").write_bytes(b"no mask")
    with pytest.raises(PartlyFailed, match="1 of 4 masks failed, first: a: "):
        export(config(folder))
    assert [row["id"] for row in index(folder)] == ["c.jpg", "deep/b", "free"]


def test_names_that_would_meet_are_refused(folder: Path) -> None:
    table = pd.read_parquet(folder / "run" / "per_image.parquet")
    table.loc[len(table)] = {
        "id": "c",
        "path": str(folder / "photos" / "c.jpg"),
        "status": "ok",
        "occlusion_score": 0.1,
    }
    table.to_parquet(folder / "run" / "per_image.parquet")
    write_png(folder / "run" / "masks" / "c.png", np.zeros(SIZE, dtype=np.uint8))
    with pytest.raises(ConfigError, match=r"would both be c\.json"):
        export(config(folder))


def test_nothing_leads_out_of_the_folder(folder: Path) -> None:
    table = pd.read_parquet(folder / "run" / "per_image.parquet")
    table.loc[0, "id"] = "../../evil"
    table.to_parquet(folder / "run" / "per_image.parquet")
    with pytest.raises(ConfigError, match="leads out"):
        export(config(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": -1}, "limit must be at least 0"),
        ({"tolerance": -0.5}, "tolerance must be at least 0"),
        ({"least_iou": 1.5}, "least_iou must be in 0..1"),
        ({"by": "x"}, "order=uncertain is needed"),
        ({"order": "uncertain", "by": "x", "threshold": 0.1}, "threshold does not go with by"),
        ({"pictures": True, "format": "coco"}, "pictures go with"),
    ],
)
def test_settings_that_cannot_be(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(folder, **changes)


def test_a_dry_run_counts_and_writes_nothing(folder: Path) -> None:
    assert plan(config(folder, limit=2)) == ["2 masks would be written, 2 pictures have none; first a, c.jpg"]
    assert "no masks there" in plan(config(folder, masks=folder / "nowhere"))[0]
    assert not (folder / "out").exists()


def test_real_truth_comes_back(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "real_dev"
    source = {"format": "labelme", "images": root / "images"}
    first = import_data(ImportConfig(**source, annotations=root / "annotations", out=tmp_path / "first"))
    export(ExportConfig(masks=tmp_path / "first" / FILE, out=tmp_path / "out"))
    second = import_data(ImportConfig(**source, annotations=tmp_path / "out", out=tmp_path / "second"))
    assert second["id"].tolist() == first["id"].tolist()
    assert len(second) == 30
    for one, other in zip(first.itertuples(), second.itertuples(), strict=True):
        assert iou(mask(one.truth_path), mask(other.truth_path)) >= 0.98, one.id
        assert iou(mask(one.region_path), mask(other.region_path)) >= 0.98, one.id
    assert read_manifest(tmp_path / "second" / FILE)["region_path"].notna().all()
