"""Rendering composites from a data set on disk; a tiny CelebAMask-HQ look-alike is drawn here."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ray_jobs.data import CompositesConfig, render
from s3pot.images import read_image
from tests.faces import draw_face

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


def _config(dataset: Path, out: str, **changes: object) -> CompositesConfig:
    return CompositesConfig(
        faces=dataset / "faces",
        cutouts=dataset / "cutouts",
        out=dataset / out,
        exclude=dataset / "exclude.txt",
        count=6,
        size=64,
        **changes,  # type: ignore[arg-type]
    )


def test_manifest_and_pictures(dataset: Path) -> None:
    manifest = render(_config(dataset, "out"))
    assert len(manifest) == 6
    assert set(manifest["face_id"]) == {"f0", "f1"}, "a face with glasses is no base"
    pd.testing.assert_frame_equal(manifest, pd.read_parquet(dataset / "out" / "manifest.parquet"))
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


def test_all_clean(dataset: Path) -> None:
    manifest = render(_config(dataset, "out", clean_share=0.999, decoy_share=0.0))
    assert set(manifest["kind"]) == {"clean"}


def test_excluding_everything_is_one_sentence(dataset: Path) -> None:
    (dataset / "exclude.txt").write_text("f0\nf1\nf2\n")
    with pytest.raises(FileNotFoundError, match="no usable faces"):
        render(_config(dataset, "out"))
