"""The scorecard as a job, on four drawn faces and models of random weights."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_jobs.scorecard import ScorecardConfig, measure, scorecard
from s3pot.composite import compose, unoccluded
from s3pot.composite.drawn import drawn_cutouts
from s3pot.composite.rendering import NamedComposite, write_composites
from s3pot.scorecard.table import TARGETS
from tests.faces import draw_face


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three composites and a clean face; a manifest of each."""
    out = tmp_path_factory.mktemp("composites")
    named = []
    for index in range(4):
        face, parsing = draw_face(256, index)
        cutouts = [drawn_cutouts()[index]]
        composite = (
            compose(face, parsing, cutouts, np.random.default_rng(index)) if index else unoccluded(face, parsing)
        )
        named.append(NamedComposite(id=f"i{index}", face_id=f"f{index}", composite=composite, parsing=parsing))
    manifest = write_composites(named, out)
    manifest[manifest["kind"] == "clean"].to_parquet(out / "clean.parquet")
    return out


def test_it_measures_all_it_has_material_for(
    folder: Path, random_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ScorecardConfig(
        manifest=folder / "manifest.parquet",
        clean=folder / "clean.parquet",
        timing_repeats=0,
        name="smoke",
        runs=tmp_path,
    )
    rows = scorecard(config)
    missing = {row.target.key for row in rows if row.met == "not measured"}
    assert {key for key in missing if key.startswith(("sam/", "parser/"))} == {"sam/segment/3+3"}
    assert {"chain/overfit", "chain/real_dev_all", "all/seconds_batch_1", "generator/ssim_over_mean_face"} <= missing
    assert not {"chain/iou_all", "chain/clean_marked", "generator/recall_loss", "all/megabytes"} & missing
    out = tmp_path / "scorecard" / "smoke"
    stored = json.loads((out / "scorecard.json").read_text())
    assert [entry["key"] for entry in stored] == [target.key for target in TARGETS]
    assert (out / "scorecard.md").read_text() in capsys.readouterr().out
    assert len(pd.read_parquet(out / "clean_faces.parquet")) == 1
    assert sorted(pd.read_parquet(out / "references.parquet")["id"]) == ["i1", "i2", "i3"]


def test_measuring_is_repeatable_and_a_head_is_optional(folder: Path, random_weights: Path) -> None:
    config = ScorecardConfig(manifest=folder / "manifest.parquet", head="none", timing_repeats=0, limit=2)
    first, second = measure(config), measure(config)
    assert first.estimates.keys() == second.estimates.keys()
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name])
    assert set(first.tables["ladder"]["head"]) == {"none"}


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"timing_repeats": -1}, {"abstain_threshold": 1.5}])
def test_wrong_values_name_their_key(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScorecardConfig(manifest=Path("m.parquet"), **wrong)  # type: ignore[arg-type]


def test_a_wrong_path_comes_out_before_anything_is_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_jobs.scorecard.load_prefix", lambda chain: pytest.fail("models were loaded first"))
    for key in ("overfit", "real_dev"):
        config = ScorecardConfig(manifest=folder / "manifest.parquet", **{key: tmp_path / "nothing"})
        with pytest.raises(FileNotFoundError, match=r"nothing.*no such table"):
            measure(config)
