"""Parsing with and without a mask, on four pixels by hand and on a store of two pictures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.downstream import measure_parsing, parsing_summary, parsing_table
from analysis.results import ResultsError
from s3pot.images import write_png
from s3pot.parsing.classes import CLASSES, face_mask
from s3pot.store.manifest import append_part
from s3pot.store.prompt_store import create_empty
from tests.faces import draw_face
from tests.manifest_rows import SIDE, half_occluded_row, left_half

SKIN, NOSE, HAIR = (CLASSES.index(name) for name in ("skin", "nose", "hair"))


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(1, -1)


def mask(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool).reshape(1, -1)


def test_four_pixels_by_hand() -> None:
    # A hand over the second pixel, which the parser calls skin; it is wrong about the third as well.
    parsing, clean = labels(SKIN, SKIN, SKIN, NOSE), labels(SKIN, SKIN, NOSE, NOSE)
    occluder, region = mask(0, 1, 0, 0), mask(1, 1, 1, 1)
    before = measure_parsing(parsing, clean, occluder, region, None)
    assert before == {
        "miou_relabelled": (1 / 3 + 1 / 2) / 2,
        "accuracy_relabelled": 2 / 4,
        "accuracy_excluded": 3 / 4,
        "kept": 1.0,
    }
    after = measure_parsing(parsing, clean, occluder, region, mask(0, 1, 0, 0))
    assert after == {
        "miou_relabelled": (1 / 2 + 1 / 2) / 2,
        "accuracy_relabelled": 3 / 4,
        "accuracy_excluded": 2 / 3,
        "kept": 3 / 4,
    }


def test_what_lies_outside_the_face_does_not_count() -> None:
    parsing, clean = labels(SKIN, HAIR), labels(SKIN, SKIN)
    found = measure_parsing(parsing, clean, mask(0, 0), mask(1, 0), None)
    assert (found["miou_relabelled"], found["accuracy_excluded"]) == (1.0, 1.0)
    everything = measure_parsing(parsing, clean, mask(0, 0), mask(1, 0), mask(1, 1))
    assert everything["kept"] == 0.0
    assert np.isnan(everything["accuracy_excluded"])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures whose left half is occluded, one of a photograph twice as large; the evaluation finds all of it."""
    store, evaluation = tmp_path / "store", tmp_path / "evaluation"
    create_empty(store, "x", {}, "fp16")
    clean = draw_face(SIDE)[1]
    rows = []
    for name, scale in (("a", 1), ("b", 2)):

        def enlarged(picture: np.ndarray, scale: int = scale) -> np.ndarray:
            return np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1)

        paths = {key: str(tmp_path / name / f"{key}.png") for key in ("truth_path", "region_path", "parsing_path")}
        write_png(paths["truth_path"], enlarged(left_half()))
        write_png(paths["region_path"], enlarged(face_mask(clean).astype(np.uint8) * 255))
        write_png(paths["parsing_path"], enlarged(clean))
        write_png(evaluation / "masks" / f"{name}.png", enlarged(left_half()))
        size = {"original_height": scale * SIDE, "original_width": scale * SIDE}
        matrix = [scale, 0.0, (scale - 1) / 2, 0.0, scale, (scale - 1) / 2]
        rows.append(half_occluded_row(tmp_path / name, id=name, face_id=name, to_original=matrix, **paths, **size))
    rows.append(half_occluded_row(tmp_path, id="real", parsing_path=None))
    append_part(store / "manifest", rows)
    return store, evaluation


def test_a_parser_that_sees_through_gains_all_it_got_wrong(folders: tuple[Path, Path]) -> None:
    table = parsing_table(*folders)
    assert table.groupby("mask")["id"].apply("".join).to_dict() == {"none": "ab", "predicted": "ab", "true": "ab"}
    found = table.set_index(["mask", "id"])
    face = face_mask(draw_face(SIDE)[1])
    visible = face[:, SIDE // 2 :].sum() / face.sum()
    assert found.loc[("none", "a"), "accuracy_relabelled"] == pytest.approx(visible)
    assert found.loc[("predicted", "a"), "accuracy_relabelled"] == 1.0
    assert found.loc[("predicted", "b"), "accuracy_relabelled"] > 0.97, "labels are brought to the photograph"
    pd.testing.assert_frame_equal(found.loc["predicted"], found.loc["true"])


def test_the_summary_pairs_pictures(folders: tuple[Path, Path]) -> None:
    table = parsing_table(*folders)
    summary = parsing_summary(table).set_index(["mask", "measure"])
    row = summary.loc[("predicted", "accuracy_relabelled")]
    means = table.groupby("mask")["accuracy_relabelled"].mean()
    assert row["mean"] == pytest.approx(means["predicted"])
    assert row["difference"] == pytest.approx(means["predicted"] - means["none"])
    assert summary.loc[("none", "accuracy_relabelled"), "difference"] == 0.0
    assert row["n"] == 2


def test_what_is_missing_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"a\.png: no such mask"):
        parsing_table(folders[0], tmp_path)
    create_empty(tmp_path / "empty", "x", {}, "fp16")
    with pytest.raises(ResultsError, match="no picture has clean labels"):
        parsing_table(tmp_path / "empty", folders[1])
