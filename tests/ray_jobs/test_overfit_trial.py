"""What a trial does, without Ray: the rows, masks and heads of a few images of the astronaut."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from ray_jobs import overfit_trial
from ray_jobs.overfit import rows_of
from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.overfit_trial import ROW_SCHEMA, head_path, overfit_images
from s3pot.evaluation import evaluate_store, mask_path
from s3pot.head.head_file import load_reweighter, read_prefix, save_head
from s3pot.head.per_image import CURVES, Overfitted, initial_head, overfit_heads
from s3pot.head.prefix_identity import prefix_description
from s3pot.head.records import PromptRecord
from s3pot.head.training import TrainingConfig, train_head
from s3pot.images import decode_png
from s3pot.metrics import METRIC_COLUMNS
from s3pot.sam.promptable import PromptableSam
from s3pot.store.back_off import BackOff
from s3pot.store.prompt_store import PromptStore, StoredRecords
from tests.stand_ins import small_reweighter

Row = dict[str, Any]


@pytest.fixture(scope="module")
def sam(astronaut_store: PromptStore) -> PromptableSam:
    return astronaut_store.load_sam("cpu")


@pytest.fixture(scope="module")
def images(astronaut_store: PromptStore) -> list[Row]:
    """Three images as trials are given them."""
    rows: list[Row] = rows_of(astronaut_store, astronaut_store.records().ids[:3]).to_pylist()
    return rows


@pytest.fixture
def config(astronaut_store: PromptStore) -> OverfitConfig:
    return OverfitConfig(store=astronaut_store.root, steps=3)


def run(
    images: Sequence[Row], store: PromptStore, sam: PromptableSam, config: OverfitConfig, folder: Path
) -> list[Row]:
    return overfit_images(images, store, sam, config, folder, BackOff(config.together))


def same(one: Any, other: Any) -> bool:
    return bool(one == other) or (pd.isna(one) and pd.isna(other))


def assert_close(row: Row, expected: Row) -> None:
    assert row.keys() == expected.keys()
    for name in row.keys() - {"seconds"}:
        if isinstance(row[name], float | list):
            assert row[name] == pytest.approx(expected[name], rel=0.02, abs=2e-3, nan_ok=True), name
        else:
            assert row[name] == expected[name], name


@pytest.fixture(scope="module")
def alone(
    astronaut_store: PromptStore, sam: PromptableSam, images: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Row]]:
    """Folder and rows of three images, one after the other, heads kept."""
    folder = tmp_path_factory.mktemp("alone")
    config = OverfitConfig(store=astronaut_store.root, steps=3, keep_heads=True)
    return folder, run(images, astronaut_store, sam, config, folder)


class TestRow:
    def test_equals_training_and_evaluation_of_the_library(
        self, astronaut_store: PromptStore, sam: PromptableSam, config: OverfitConfig, alone: tuple[Path, list[Row]]
    ) -> None:
        folder, rows = alone
        for place, row in enumerate(rows):
            name, record = row["id"], astronaut_store.records()[place]
            head = initial_head(config.head.build(sam.embed_dim), 0, name)
            before = evaluate_store(astronaut_store, sam, head.eval(), ids=[name]).iloc[0]
            training = TrainingConfig(epochs=3, batch_size=1, learning_rate=config.learning_rate)
            reports = train_head(head, sam, [record], training, config.objective)
            masks: dict[str, np.ndarray] = {}
            after = evaluate_store(astronaut_store, sam, head, ids=[name], on_mask=masks.__setitem__).iloc[0].to_dict()
            assert all(same(row[column], value) for column, value in after.items())
            assert same(row["iou_before"], before["iou_face_mask"])
            assert row["curve_total"][:-1] == [report.total for report in reports]
            assert row["objective_before"] == reports[0].total
            assert row["objective_after"] == row["curve_total"][-1] < row["curve_total"][0]
            assert (row["steps"], row["stopped"], row["start"]) == (3, "budget", "scratch")
            assert row["seconds"] > 0
            written = decode_png(mask_path(folder, name).read_bytes())
            np.testing.assert_array_equal(written, 255 * masks[name].astype(np.uint8))

    def test_has_the_columns_of_the_tables_and_no_others(self, alone: tuple[Path, list[Row]]) -> None:
        for row in alone[1]:
            assert set(ROW_SCHEMA.names) - {"traceback"} == set(row)
        assert set(METRIC_COLUMNS) <= set(ROW_SCHEMA.names)
        assert pa.Table.from_pylist(alone[1], schema=ROW_SCHEMA)["iou_before"].null_count == 0

    def test_a_kept_head_is_the_one_that_made_the_mask(
        self, astronaut_store: PromptStore, sam: PromptableSam, alone: tuple[Path, list[Row]]
    ) -> None:
        folder, rows = alone
        for row in rows:
            path = head_path(folder, row["id"])
            assert read_prefix(path) == prefix_description(astronaut_store.chain)
            again = evaluate_store(astronaut_store, sam, load_reweighter(path), ids=[row["id"]]).iloc[0]
            assert same(again["iou_face_mask"], row["iou_face_mask"])
            assert again["occlusion_score"] == row["occlusion_score"]

    def test_no_head_is_kept_unless_asked_for(
        self, astronaut_store: PromptStore, sam: PromptableSam, images: list[Row], config: OverfitConfig, tmp_path: Path
    ) -> None:
        run(images[:1], astronaut_store, sam, replace(config, steps=1), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["masks"]


class TestTogether:
    def test_the_same_rows(
        self,
        astronaut_store: PromptStore,
        sam: PromptableSam,
        images: list[Row],
        config: OverfitConfig,
        alone: tuple[Path, list[Row]],
        tmp_path: Path,
    ) -> None:
        for row, expected in zip(
            run(images, astronaut_store, sam, replace(config, together=3), tmp_path), alone[1], strict=True
        ):
            assert_close(row, expected)

    def test_what_does_not_fit_is_halved_for_good(
        self,
        astronaut_store: PromptStore,
        sam: PromptableSam,
        images: list[Row],
        config: OverfitConfig,
        alone: tuple[Path, list[Row]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def small(heads: Any, *others: Any) -> list[Overfitted]:
            if len(heads) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return overfit_heads(heads, *others)

        monkeypatch.setattr(overfit_trial, "overfit_heads", small)
        back_off = BackOff(3)
        rows = overfit_images(images, astronaut_store, sam, config, tmp_path, back_off)
        assert back_off.largest == 2
        for row, expected in zip(rows, alone[1], strict=True):
            assert_close(row, expected)


class TestFailures:
    """One of three images fails; the others are as if it had not been there."""

    @pytest.fixture(params=[1, 3], ids=["alone", "together"])
    def config(self, astronaut_store: PromptStore, request: pytest.FixtureRequest) -> OverfitConfig:
        return OverfitConfig(store=astronaut_store.root, steps=3, together=request.param)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"shard": "0.safetensors"}, "0.safetensors"),
            ({"truth_path": "/nowhere/truth.png"}, "/nowhere/truth.png"),
            ({"parsing_png": b"no picture"}, "is no image that Pillow knows"),
            ({"id": "../../stray"}, "leads out of"),
        ],
        ids=["tokens", "truth", "parsing", "id"],
    )
    def test_an_image_that_cannot_be_read(
        self,
        astronaut_store: PromptStore,
        sam: PromptableSam,
        images: list[Row],
        config: OverfitConfig,
        alone: tuple[Path, list[Row]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        change: Row,
        words: str,
    ) -> None:
        optimised: list[int] = []

        def counted(heads: Any, *others: Any) -> list[Overfitted]:
            optimised.append(len(heads))
            return overfit_heads(heads, *others)

        monkeypatch.setattr(overfit_trial, "overfit_heads", counted)
        spoilt = [images[0], images[1] | change, images[2]]
        first, failed, last = run(spoilt, astronaut_store, sam, config, tmp_path)
        assert failed["status"] == "failed"
        assert words in failed["error"]
        assert words in failed["traceback"]
        assert (failed["id"], failed["kind"]) == (spoilt[1]["id"], images[1]["kind"])
        assert_close(first, alone[1][0])
        assert_close(last, alone[1][2])
        assert sum(optimised) == 2, "no image is optimised twice for the fault of another"

    def test_an_objective_that_is_not_finite(
        self,
        astronaut_store: PromptStore,
        sam: PromptableSam,
        images: list[Row],
        config: OverfitConfig,
        alone: tuple[Path, list[Row]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        whole = StoredRecords.__getitem__

        def spoilt(records: StoredRecords, index: int) -> PromptRecord:
            record = whole(records, index)
            if record.id == images[1]["id"]:
                record = replace(record, image_tokens=torch.full_like(record.image_tokens, math.nan))
            return record

        monkeypatch.setattr(StoredRecords, "__getitem__", spoilt)
        first, failed, last = run(images, astronaut_store, sam, config, tmp_path)
        assert failed["status"] == "failed"
        assert failed["error"] == "the objective is not finite after 0 steps (nan): lower the learning rate?"
        assert not mask_path(tmp_path, images[1]["id"]).exists()
        assert_close(first, alone[1][0])
        assert_close(last, alone[1][2])


def test_from_a_trained_head(
    astronaut_store: PromptStore, sam: PromptableSam, images: list[Row], config: OverfitConfig, tmp_path: Path
) -> None:
    head = small_reweighter(sam.embed_dim, trained_looking=True)
    save_head(head, tmp_path / "head.safetensors", astronaut_store.chain, {})
    warm = replace(config, start_from=tmp_path / "head.safetensors", seed=9)
    rows = run(images[:2], astronaut_store, sam, warm, tmp_path)
    expected = evaluate_store(astronaut_store, sam, head.eval(), ids=[image["id"] for image in images[:2]])
    assert [row["start"] for row in rows] == ["head", "head"]
    assert [row["iou_before"] for row in rows] == pytest.approx(expected["iou_face_mask"].tolist(), nan_ok=True)
    assert all(len(row[f"curve_{name}"]) == 4 for row in rows for name in CURVES)
    assert all(row["objective_after"] < row["objective_before"] for row in rows)
