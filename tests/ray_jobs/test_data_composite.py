"""Rendering composites from a data set on disk; a tiny CelebAMask-HQ look-alike is drawn here."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ray_jobs.data_composite import CompositesConfig, render
from ray_jobs.job_cli import resolve
from s3pot.composite.difficulty import PRESETS, Difficulty
from s3pot.config import ConfigError
from s3pot.data.manifest import FILE, read_manifest, write_manifest
from s3pot.images import read_image
from tests.faces import draw_face
from tests.stand_ins import DrawnFaceParser

SKIN_TO_CELEBAMASK = np.array([0, 11, 6, 4, 13, 2, 1, 8, 17, 10, 3, 15], dtype=np.uint8)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three labelled faces, one of them with glasses, and two cut-outs of different kinds."""
    for folder in ("images", "labels"):
        (tmp_path / "faces" / folder).mkdir(parents=True)
    for index in range(3):
        face, parsing = draw_face(64, seed=index)
        labels = SKIN_TO_CELEBAMASK[parsing]
        if index == 2:
            labels[25:32, 20:44] = 3
        Image.fromarray(face).save(tmp_path / "faces" / "images" / f"f{index}.jpg", quality=95)
        Image.fromarray(labels).save(tmp_path / "faces" / "labels" / f"f{index}.png")
    for kind, color in (("objects", (200, 30, 30, 255)), ("emoji", (250, 220, 30, 255))):
        (tmp_path / "cutouts" / kind).mkdir(parents=True)
        Image.new("RGBA", (40, 30), color).save(tmp_path / "cutouts" / kind / "thing.png")
    (tmp_path / "exclude.txt").write_text("# nobody\n")
    return tmp_path


def _config(dataset: Path, out: str, **changes: Any) -> CompositesConfig:
    settings: dict[str, Any] = {"composites": 4, "decoys": 1, "clean": 1, "size": 64} | changes
    return CompositesConfig(
        faces=dataset / "faces",
        cutouts=dataset / "cutouts",
        out=dataset / out,
        exclude=dataset / "exclude.txt",
        **settings,
    )


def _wear_a_hat(dataset: Path, name: str) -> None:
    """Add a face that wears a hat: no base, but a hat for others."""
    face, parsing = draw_face(64, seed=5)
    labels = SKIN_TO_CELEBAMASK[parsing]
    labels[4:22, 6:58], face[4:22, 6:58] = 14, (150, 20, 160)
    Image.fromarray(face).save(dataset / "faces" / "images" / f"{name}.jpg", quality=95)
    Image.fromarray(labels).save(dataset / "faces" / "labels" / f"{name}.png")


def test_manifest_and_pictures(dataset: Path) -> None:
    manifest = render(_config(dataset, "out"))
    assert Counter(manifest["kind"]) == {"emoji": 3, "objects": 1, "decoy": 1, "clean": 1}, "0.18 to 0.08 of 4"
    assert Counter(manifest["face_id"]) == {"f0": 3, "f1": 3}, "a face with glasses is no base"
    pd.testing.assert_frame_equal(manifest, read_manifest(dataset / "out" / "manifest.parquet"))
    assert set(zip(manifest["width"], manifest["height"], manifest["source"], strict=True)) == {(64, 64, "composite")}
    for row in manifest.itertuples():
        image, clean = read_image(row.path).astype(int), read_image(row.clean_path).astype(int)
        truth = np.asarray(Image.open(row.truth_path)) > 127
        if row.kind in {"objects", "emoji"}:
            assert np.abs(image - clean)[truth].mean() > 20, "the truth is where the picture changed"
        if row.kind in {"clean", "decoy"}:
            assert not truth.any()


def test_the_same_seed_gives_the_same_pictures(dataset: Path) -> None:
    first, second = render(_config(dataset, "one")), render(_config(dataset, "two"))
    for one, two in zip(first["path"], second["path"], strict=True):
        np.testing.assert_array_equal(read_image(one), read_image(two))
    other = render(_config(dataset, "three", seed=1))
    assert any(
        not np.array_equal(read_image(one), read_image(two))
        for one, two in zip(first["path"], other["path"], strict=True)
    )


def test_all_clean(dataset: Path) -> None:
    manifest = render(_config(dataset, "out", composites=0, decoys=0, clean=2))
    assert set(manifest["kind"]) == {"clean"}
    assert set(manifest["face_id"]) == {"f0", "f1"}


def test_hats_that_others_wear_join_the_cutouts(dataset: Path) -> None:
    _wear_a_hat(dataset, "f3")
    manifest = render(_config(dataset, "out", composites=12))
    assert "hats/f3" in set(manifest["cutout_id"])
    assert "f3" not in set(manifest["face_id"])
    (dataset / "exclude.txt").write_text("f3\n")
    assert "hats/f3" not in set(render(_config(dataset, "without", composites=12))["cutout_id"])


def test_segments_are_for_training_only(dataset: Path) -> None:
    (dataset / "cutouts" / "segments").mkdir()
    Image.new("RGBA", (40, 30), (9, 9, 9, 255)).save(dataset / "cutouts" / "segments" / "stone.png")
    assert "segments" not in set(render(_config(dataset, "out", composites=20))["kind"])


def test_several_occluders_on_one_face(dataset: Path) -> None:
    knobs = Difficulty(occluders=(2, 2))
    manifest = render(_config(dataset, "out", decoys=0, clean=0, knobs=knobs))
    for row in manifest.itertuples():
        first, second = row.cutout_id.split("+")
        assert {first, second} == {"objects/thing", "emoji/thing"}
        assert first.startswith(row.kind)


def test_a_preset_changes_the_pictures_and_not_the_plan(dataset: Path) -> None:
    easy, hard = (render(_config(dataset, name, difficulty=name)) for name in ("easy", "standard"))
    assert easy["cutout_id"].tolist() == hard["cutout_id"].tolist()
    assert not np.array_equal(read_image(easy["path"][0]), read_image(hard["path"][0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoys": -1}, "decoys must be at least 0"),
        ({"composites": 0, "decoys": 0, "clean": 0}, "nothing to render"),
        ({"difficulty": "hard", "knobs": Difficulty()}, "knobs change the preset standard"),
    ],
)
def test_settings_that_cannot_be(dataset: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _config(dataset, "out", **changes)


def test_a_single_knob_is_set_on_the_command_line() -> None:
    words = ["faces=a", "cutouts=b", "out=c", "knobs.object_scale=[0.2, 0.3]"]
    config = resolve(CompositesConfig, words, {})
    assert config.drawn_from == Difficulty(object_scale=(0.2, 0.3))
    assert resolve(CompositesConfig, [*words[:3], "difficulty=hard"], {}).drawn_from == PRESETS["hard"]


@pytest.fixture
def manifest_of(dataset: Path) -> Path:
    """The three faces as a manifest: "f0" and "f1" are in split train, "f2" wears glasses and is in val."""
    rows = [
        {
            "id": f"set/f{number}",
            "path": dataset / "faces" / "images" / f"f{number}.jpg",
            "labels_path": dataset / "faces" / "labels" / f"f{number}.png",
            "split": "val" if number == 2 else "train",
        }
        for number in range(3)
    ]
    write_manifest(dataset / "imported", rows)
    return dataset / "imported" / FILE


def test_faces_of_a_manifest(dataset: Path, manifest_of: Path) -> None:
    config = replace(_config(dataset, "out"), faces=manifest_of)
    made = render(config)
    assert Counter(made["face_id"]) == {"set/f0": 3, "set/f1": 3}, "a face with glasses is no base"
    assert Counter(made["kind"]) == {"emoji": 3, "objects": 1, "decoy": 1, "clean": 1}
    assert set(made["parsing_source"]) == {"labels"}
    for row in made[made["kind"] == "emoji"].itertuples():
        truth, region = (np.asarray(Image.open(path)) > 127 for path in (row.truth_path, row.region_path))
        assert truth.any()
        assert not (truth & ~region).any()
    again = render(replace(config, out=dataset / "again"))
    np.testing.assert_array_equal(read_image(made["path"][0]), read_image(again["path"][0]))


def test_one_split_of_a_manifest(dataset: Path, manifest_of: Path) -> None:
    config = replace(_config(dataset, "out", decoys=0), faces=manifest_of)
    with pytest.raises(ConfigError, match=r"no usable face among 1 .*wears glasses"):
        render(replace(config, split="val"))
    assert set(render(replace(config, split="train"))["split"]) == {"train"}
    with pytest.raises(ConfigError, match="no usable face among 0"):
        render(replace(config, split="test"))


def test_faces_without_labels_are_parsed_when_asked(
    dataset: Path, manifest_of: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_jobs.data_composite.load_parser", DrawnFaceParser)
    rows = read_manifest(manifest_of).to_dict("records")
    write_manifest(dataset / "bare", [row | {"labels_path": None} for row in rows])
    config = replace(_config(dataset, "out"), faces=dataset / "bare" / FILE)
    with pytest.raises(ConfigError, match=r"has no labels .*parsing=embedded"):
        render(config)
    made = render(replace(config, parsing="embedded"))
    assert set(made["parsing_source"]) == {"embedded"}
    np.testing.assert_array_equal(np.asarray(Image.open(made["parsing_path"][0])), draw_face(64)[1])


def test_a_face_that_is_no_square_crop(dataset: Path, manifest_of: Path) -> None:
    for number in range(3):
        Image.new("RGB", (64, 48)).save(dataset / "faces" / "images" / f"f{number}.jpg")
    with pytest.raises(ConfigError, match="no aligned crop: 64 x 48 pixels, not square"):
        render(replace(_config(dataset, "out"), faces=manifest_of))


def test_a_cutout_without_alpha_is_none(dataset: Path) -> None:
    Image.new("RGB", (40, 30)).save(dataset / "cutouts" / "objects" / "flat.png")
    with pytest.raises(ConfigError, match=r"flat\.png: has no alpha channel"):
        render(_config(dataset, "out"))


def test_a_folder_of_faces_alone_is_told_what_to_do(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="s3pot data import format=folder"):
        render(replace(_config(dataset, "out"), faces=dataset / "faces" / "images"))
    with pytest.raises(ValueError, match="split and parsing go with faces=MANIFEST"):
        replace(_config(dataset, "out"), parsing="embedded")


def test_excluding_everything_is_one_sentence(dataset: Path) -> None:
    (dataset / "exclude.txt").write_text("f0\nf1\nf2\n")
    with pytest.raises(FileNotFoundError, match="no usable faces"):
        render(_config(dataset, "out"))
