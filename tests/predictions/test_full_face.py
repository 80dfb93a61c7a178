from pathlib import Path

import numpy as np
import pytest

from s3pot.images import write_png
from s3pot.parsing.classes import face_mask
from s3pot.predictions.full_face import FullFace
from s3pot.store.manifest import append_part, read_manifest
from tests.faces import draw_face
from tests.manifest_rows import SIDE, half_occluded_row


@pytest.fixture
def row(tmp_path: Path) -> object:
    region = np.zeros((SIDE, SIDE), dtype=np.uint8)
    region[10:20] = 255
    write_png(tmp_path / "region.png", region)
    append_part(tmp_path / "manifest", [half_occluded_row(tmp_path, region_path=str(tmp_path / "region.png"))])
    return next(read_manifest(tmp_path / "manifest").itertuples(index=False))


def test_three_sources(row: object, tmp_path: Path) -> None:
    np.testing.assert_array_equal(FullFace().of(row), face_mask(draw_face(SIDE)[1]))
    assert FullFace(source="region").of(row).sum() == 10 * SIDE
    own = np.zeros((SIDE, SIDE), dtype=np.uint8)
    own[0, 0] = 255
    write_png(tmp_path / "faces" / "a.png", own)
    assert FullFace(source=str(tmp_path / "faces")).of(row).sum() == 1
    write_png(tmp_path / "faces" / "a.png", own[:5])
    with pytest.raises(ValueError, match=r"a.png: is \(5, 64\), the image 64 x 64"):
        FullFace(source=str(tmp_path / "faces")).of(row)


def test_an_unknown_source_and_an_unknown_region_are_said(row: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="full_face must be stored, region or a folder"):
        FullFace(source="parsed")
    append_part(tmp_path / "manifest", [half_occluded_row(tmp_path)])
    without = next(read_manifest(tmp_path / "manifest").itertuples(index=False))
    with pytest.raises(ValueError, match="full_face=region needs a region_path"):
        FullFace(source="region").of(without)
