"""Evaluation of heads and of foreign masks."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed
from ray_jobs.measured_method import MethodConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.head.head_file import save_head
from s3pot.images import decode_png, write_png
from s3pot.matching.selector import SelectorConfig
from s3pot.parsing.classes import face_mask
from s3pot.prefix import PrefixConfig
from s3pot.store.prompt_store import PromptStore, stored_parsing
from tests.stand_ins import small_reweighter


def test_table_summary_and_masks(
    astronaut_store: PromptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, head="none", runs=tmp_path))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert table["id"].tolist() == astronaut_store.rows(["status"])["id"].tolist()
    summary = json.loads((folder / "summary.json").read_text())
    occluded = table[table["truth_pixels"] > 0]
    assert summary["overall_iou_face_mask"] == pytest.approx(occluded["iou_face_mask"].mean())
    assert "iou_face_mask" in capsys.readouterr().out
    mask = decode_png((folder / "masks" / f"{table['id'].iloc[0]}.png").read_bytes())
    assert mask.shape == (256, 256)
    assert set(np.unique(mask)) <= {0, 255}


def test_truth_as_foreign_masks_is_perfect_inside_the_face(astronaut_store: PromptStore, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    rows = astronaut_store.rows()
    for row in rows.itertuples():
        write_png(masks / f"{row.id}.png", decode_png(Path(row.truth_path).read_bytes()))
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, masks=masks, runs=tmp_path / "runs"))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert (table["iou_unclipped"].dropna() == 1.0).all()
    assert (table["false_positive_area"].dropna() == 0.0).all()


def test_a_missing_mask_is_a_failed_row_unless_it_is_excluded(astronaut_store: PromptStore, tmp_path: Path) -> None:
    first = astronaut_store.rows(["status"])["id"].iloc[0]
    write_png(tmp_path / "masks" / f"{first}.png", np.zeros((256, 256), dtype=np.uint8))
    config = EvaluateConfig(store=astronaut_store.root, masks=tmp_path / "masks", runs=tmp_path / "runs")
    with pytest.raises(PartlyFailed, match=r"4 of 5 images failed, first: .*\.png"):
        evaluate(config)
    folder = evaluate(replace(config, missing="exclude"))
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status_excluded"], summary["failed"], summary["missing_policy"]) == (4, 0, "exclude")


def test_a_described_face_parser_is_measured_against_the_stored_face(
    astronaut_store: PromptStore, tmp_path: Path
) -> None:
    for row in astronaut_store.rows().itertuples():
        seen = stored_parsing(row).copy()
        seen[:, :128] = 0
        write_png(tmp_path / "labels" / f"{row.id}.png", seen)
    (tmp_path / "parser.yaml").write_text(
        "path: labels/{id}.png\nencoding: labels\nlabel_order: s3pot\nframe: aligned\ntarget: parts\n"
    )
    folder = evaluate(
        EvaluateConfig(store=astronaut_store.root, masks=tmp_path / "parser.yaml", runs=tmp_path / "runs")
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["full_face"], summary["target"]) == ("stored", "parts")
    row = next(astronaut_store.rows().itertuples())
    mask = decode_png((folder / "masks" / f"{row.id}.png").read_bytes()) > 0
    expected = face_mask(stored_parsing(row))
    expected[:, 128:] = False
    np.testing.assert_array_equal(mask, expected)


def test_a_baseline_by_its_name(astronaut_store: PromptStore, tmp_path: Path) -> None:
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, baseline="pixel_difference", runs=tmp_path))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert table["iou_face_mask"].notna().sum() == 4
    assert json.loads((folder / "summary.json").read_text())["seconds_per_image"] > 0


def test_what_is_known_of_the_images_becomes_slices(astronaut_store: PromptStore, tmp_path: Path) -> None:
    ids = astronaut_store.rows(["status"])["id"]
    known = pd.DataFrame({"id": ids, "light": ["dim", "dim", "bright", "dim", "bright"], "path": "x"})
    known.to_csv(tmp_path / "known.csv", index=False)
    config = EvaluateConfig(store=astronaut_store.root, head="none", attributes=tmp_path / "known.csv", runs=tmp_path)
    folder = evaluate(config)
    entries = pd.DataFrame(json.loads((folder / "summary.json").read_text())["metrics"])
    found = set(entries.loc[entries["scope"] == "slice", "kind"])
    assert {"light=dim", "light=bright"} <= found
    assert not any(name.startswith("path") for name in found)


def test_images_about_which_nothing_is_known(astronaut_store: PromptStore, tmp_path: Path) -> None:
    rows = astronaut_store.rows()
    shutil.copytree(astronaut_store.root, tmp_path / "store")
    plain = PromptStore(tmp_path / "store")
    plain.append(rows.assign(kind=None, face_id=None, cutout_id=None).astype(object).to_dict("records"))
    folder = evaluate(EvaluateConfig(store=plain.root, head="none", runs=tmp_path))
    table = pd.read_parquet(folder / "per_image.parquet")
    assert set(table["kind"]) == {"unknown"}
    assert table["face_id"].tolist() == table["id"].tolist()


def test_methods_side_by_side(astronaut_store: PromptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = {
        "ours": MethodConfig(head="none"),
        "pixels": MethodConfig(baseline="pixel_difference"),
    }
    config = EvaluateConfig(
        store=astronaut_store.root, clean=astronaut_store.root, methods=methods, name="table", runs=tmp_path
    )
    folder = evaluate(config)
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in methods)
    assert (folder / "table.md").read_text() in printed
    long = pd.read_csv(folder / "table.csv").set_index(["method", "set", "scope", "metric"])
    single = evaluate(EvaluateConfig(store=astronaut_store.root, head="none", runs=tmp_path))
    alone = json.loads((single / "summary.json").read_text())["overall_iou_face_mask"]
    assert long.loc[("ours", "store", "overall", "iou_face_mask"), "mean"].item() == pytest.approx(alone)
    assert ("pixels", "clean", "clean", "false_positive_area") in long.index
    masks = [path.name for path in (folder / "pixels" / "masks").iterdir()]
    assert len(masks) == 5

    # Another method is one more line; what is measured stays.
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/per_image.parquet")}
    more = methods | {"masks": MethodConfig(masks=folder / "pixels" / "masks", clean=folder / "pixels" / "masks")}
    evaluate(replace(config, methods=more))
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    both = [pd.read_parquet(folder / name / "per_image.parquet")["iou_face_mask"] for name in ("pixels", "masks")]
    pd.testing.assert_series_equal(*both)


def test_a_method_that_cannot_be_measured_is_said_and_loses_nothing(
    astronaut_store: PromptStore, tmp_path: Path
) -> None:
    methods = {"ours": MethodConfig(head="none"), "gone": MethodConfig(masks=tmp_path / "gone")}
    config = EvaluateConfig(store=astronaut_store.root, methods=methods, name="table", runs=tmp_path)
    with pytest.raises(PartlyFailed, match=r"1 of 2 methods not measured, first: gone: .*neither a folder"):
        evaluate(config)
    text = (tmp_path / "evaluate" / "table" / "table.md").read_text()
    assert "- not measured: gone" in text
    assert "| ours |" in text


def test_one_thing_predicts() -> None:
    for wrong, message in (
        ({"masks": Path("m"), "baseline": "persam"}, "masks and baseline both predict"),
        ({"baseline": "supervised"}, "weights and baseline=supervised belong together"),
        ({"full_face": "region"}, "are for masks"),
        ({"clean": Path("c")}, "clean is for a table"),
        ({"methods": {"a/b": MethodConfig()}}, "'a/b' is no name for a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            EvaluateConfig(store=Path("s"), **wrong)  # type: ignore[arg-type]


def test_a_missing_head_is_one_sentence(astronaut_store: PromptStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file; train one"):
        evaluate(EvaluateConfig(store=astronaut_store.root, head=str(tmp_path / "head"), runs=tmp_path))


def test_a_head_for_another_prefix_is_refused(astronaut_store: PromptStore, tmp_path: Path) -> None:
    head = tmp_path / "head.safetensors"
    otsu = replace(astronaut_store.chain, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu")))
    save_head(small_reweighter(128), head, otsu, {})
    with pytest.raises(WeightsError, match=r"selector\.kind otsu there and greedy here"):
        evaluate(EvaluateConfig(store=astronaut_store.root, head=str(head), runs=tmp_path))
