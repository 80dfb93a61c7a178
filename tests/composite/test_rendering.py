from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s3pot.composite.compositor import Composite, compose
from s3pot.composite.cutouts import Cutout
from s3pot.composite.rendering import FOLDERS, NamedComposite, write_composites
from s3pot.images import decode_png, read_image
from s3pot.metrics.face_region import face_region
from s3pot.seeding import generator
from tests.faces import draw_face


def blue(name: str) -> Cutout:
    return Cutout(id=f"objects/{name}", kind="objects", rgba=np.full((30, 30, 4), (20, 60, 220, 255), np.uint8))


def named(name: str = "0001", *, bare: bool = False) -> NamedComposite:
    image, parsing = draw_face(64)
    if bare:
        region = face_region(parsing)
        nothing = np.zeros_like(region)
        composite = Composite(
            image=image, clean=image, occluder=nothing, occlusion=nothing, region=region, cutout_ids=(), kind="bare"
        )
    else:
        composite = compose(image, parsing, [blue("a"), blue("b")], generator(0, "composite", name))
    return NamedComposite(id=name, face_id="face7", composite=composite, parsing=parsing)


def test_every_picture_comes_back(tmp_path: Path) -> None:
    entry = named()
    [row] = write_composites([entry], tmp_path / "out").itertuples()
    np.testing.assert_array_equal(read_image(row.path), entry.composite.image)
    np.testing.assert_array_equal(read_image(row.clean_path), entry.composite.clean)
    assert entry.composite.occlusion.any()
    for path, expected in ((row.truth_path, entry.composite.occlusion), (row.region_path, entry.composite.region)):
        picture = decode_png(Path(path).read_bytes())
        assert set(np.unique(picture)) <= {0, 255}
        np.testing.assert_array_equal(picture > 127, expected)
    np.testing.assert_array_equal(decode_png(Path(row.parsing_path).read_bytes()), entry.parsing)


def test_the_manifest_names_all_and_is_written(tmp_path: Path) -> None:
    written = write_composites([named("b"), named("a", bare=True)], tmp_path / "out")
    read = pd.read_parquet(tmp_path / "out" / "manifest.parquet")
    pd.testing.assert_frame_equal(read, written, check_dtype=False)
    assert read["id"].tolist() == ["b", "a"]
    assert list(read.columns) == ["id", *FOLDERS, "kind", "face_id", "cutout_id"]
    assert read["kind"].tolist() == ["objects", "bare"]
    assert read["face_id"].tolist() == ["face7"] * 2
    assert read["cutout_id"][0] == "objects/a+objects/b"
    assert pd.isna(read["cutout_id"][1])


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray workers run in folders of their own."""
    monkeypatch.chdir(tmp_path)
    [row] = write_composites([named()], Path("out")).itertuples()
    assert Path(row.path) == tmp_path / "out" / "images" / "0001.png"


def test_composites_are_taken_one_at_a_time(tmp_path: Path) -> None:
    """Thousands of them would not fit into memory."""
    written = []

    def stream() -> Iterator[NamedComposite]:
        for name in ("a", "b"):
            if written:
                assert (tmp_path / "images" / f"{written[-1]}.png").is_file()
            written.append(name)
            yield named(name)

    assert len(write_composites(stream(), tmp_path)) == 2


def test_two_of_one_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'a' stands for two composites"):
        write_composites([named("a"), named("a", bare=True)], tmp_path)


def test_no_composites(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no composites"):
        write_composites([], tmp_path)
