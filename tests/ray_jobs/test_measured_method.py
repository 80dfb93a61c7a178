from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_jobs.measured_method import MethodConfig, OpenStore, measure_method
from s3pot.config import ConfigError
from s3pot.store.prompt_store import PromptStore


def test_a_result_that_is_there_must_be_on_the_same_images(astronaut_store: PromptStore, tmp_path: Path) -> None:
    opened = OpenStore(astronaut_store.root)
    table = measure_method(MethodConfig(head="none"), opened).table
    (tmp_path / "overfit").mkdir()
    table.iloc[::-1].to_parquet(tmp_path / "overfit" / "per_image.parquet")
    again = measure_method(MethodConfig(result=tmp_path / "overfit"), opened).table
    pd.testing.assert_frame_equal(again.drop(columns="path"), table.drop(columns="path"), check_dtype=False)
    table.iloc[1:].to_parquet(tmp_path / "overfit" / "per_image.parquet")
    with pytest.raises(ConfigError, match=r"is on other images than .*: 1 are in one alone"):
        measure_method(MethodConfig(result=tmp_path / "overfit"), opened)


def test_a_rung_runs_the_chain_anew(astronaut_store: PromptStore) -> None:
    opened = OpenStore(astronaut_store.root)
    measured = measure_method(MethodConfig(rung="chain", head="none"), opened)
    stored = measure_method(MethodConfig(head="none"), opened).table
    assert measured.table["id"].tolist() == stored["id"].tolist()
    # The store holds tokens in fp16.
    np.testing.assert_allclose(measured.table["iou_face_mask"], stored["iou_face_mask"], atol=0.01)
    assert measured.facts["seconds_per_image_with_chain"] > 0


def test_a_rung_needs_clean_pictures(astronaut_store: PromptStore, tmp_path: Path) -> None:
    rows = astronaut_store.rows()
    store = PromptStore.create(tmp_path / "store", astronaut_store.chain)
    store.append(rows.assign(clean_path=None).astype(object).to_dict("records"))
    with pytest.raises(ValueError, match="the ladder needs clean_path of every image"):
        measure_method(MethodConfig(rung="clean_reference"), OpenStore(store.root))


def test_clean_faces_need_masks_of_their_own() -> None:
    assert MethodConfig(masks=Path("m")).for_clean_faces() is None
    assert MethodConfig(masks=Path("m"), clean=Path("c")).for_clean_faces() == MethodConfig(
        masks=Path("c"), clean=Path("c")
    )
    assert MethodConfig(baseline="persam").for_clean_faces() == MethodConfig(baseline="persam")
