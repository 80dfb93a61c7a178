import logging
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ray_jobs import encode_inputs
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.encode_inputs import as_table, forget_listing, keep_listing, list_inputs, read_items, take_inputs
from ray_jobs.job_cli import PartlyFailed
from s3pot.chain import ChainConfig
from s3pot.images import encode_png, write_png
from s3pot.places import list_place, read_place, write_place
from s3pot.store.prompt_store import PromptStore
from s3pot.store.remote_store import open_store
from tests.stand_ins import textured_face


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\na\n", "lacks the columns path"),
        ("id,path\na,x\na,y\n", "more than once"),
        ("id,path\n../a,x\n", "leads out"),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    manifest = tmp_path / "images.csv"
    manifest.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_items(manifest)


def test_paths_of_a_manifest_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("id,path\na,pictures/a.png\nb,/elsewhere/b.png\nc,s3://bucket/c.png\n")
    paths = [item["path"] for item in read_items(tmp_path / "images.csv")]
    assert paths == [str(tmp_path / "pictures" / "a.png"), "/elsewhere/b.png", "s3://bucket/c.png"]


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["007", "8"], "path": ["a.png", "b.png"], "kind": ["hands", None]})
    frame.to_csv(tmp_path / "images.csv", index=False)
    frame.to_parquet(tmp_path / "images.parquet")
    expected = [
        {"id": "007", "path": str(tmp_path / "a.png"), "kind": "hands"},
        {"id": "8", "path": str(tmp_path / "b.png"), "kind": None},
    ]
    assert read_items(tmp_path / "images.csv") == read_items(tmp_path / "images.parquet") == expected
    assert read_items(f"file://{tmp_path}/images.csv")[0]["path"] == f"file://{tmp_path}/a.png"
    assert read_items(tmp_path / "images.csv", limit=1) == expected[:1]


@pytest.mark.parametrize("source", ["nowhere", "nowhere.csv", "file:///nowhere"])
def test_a_missing_input_is_one_sentence(tmp_path: Path, source: str) -> None:
    place = source if "://" in source else str(tmp_path / source)
    with pytest.raises(FileNotFoundError, match=r"neither a folder .* nor"):
        read_items(place)


def test_workers_get_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2], "path": ["a", "b"], "kind": [float("nan"), "hands"], "other": [1, 2]})
    assert as_table(frame).to_pylist() == [
        {"id": "1", "path": "a", "kind": None},
        {"id": "2", "path": "b", "kind": "hands"},
    ]


class TestListing:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        write_png(tmp_path / "photos" / "a.png", np.zeros((4, 4, 3), np.uint8))
        return tmp_path / "photos"

    def test_is_made_once_for_a_run_that_is_interrupted(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = tmp_path / "store"
        first = take_inputs(str(photos), 0, store)
        keep_listing(first, store)
        with monkeypatch.context() as patch:
            patch.setattr(encode_inputs, "list_place", None)  # would fail
            again = take_inputs(str(photos), 0, store)
        assert again.resumed
        assert not first.resumed
        pd.testing.assert_frame_equal(again.items, first.items)
        forget_listing(store)
        write_png(photos / "b.png", np.zeros((4, 4, 3), np.uint8))
        assert take_inputs(str(photos), 0, store).items["id"].tolist() == ["a.png", "b.png"]

    def test_is_of_one_input_and_limit(self, photos: Path, tmp_path: Path) -> None:
        store = tmp_path / "store"
        keep_listing(take_inputs(str(photos), 0, store), store)
        assert not take_inputs(str(photos), 1, store).resumed
        assert not take_inputs(f"{photos}/*.png", 0, store).resumed

    def test_a_manifest_is_its_own(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "images.csv").write_text("id,path\na,photos/a.png\n")
        keep_listing(take_inputs(str(tmp_path / "images.csv"), 0, tmp_path / "store"), tmp_path / "store")
        assert not (tmp_path / "store").exists()


@pytest.fixture(scope="module")
def bucket(s3_bucket: str) -> str:
    """The URI of a folder of a bucket, with two faces and a file that is none."""
    for number in range(2):
        write_place(s3_bucket.format(f"in/deep er/{number}.png"), encode_png(textured_face(number)[0]))
    write_place(s3_bucket.format("in/broken.png"), b"no picture")
    return s3_bucket.format("in")


def test_a_bucket_is_listed_and_read(bucket: str) -> None:
    found = list_place(bucket)
    assert found is not None
    assert [image.id for image in found] == ["broken.png", "deep er/0.png", "deep er/1.png"]
    assert read_place(found[0].place) == b"no picture"
    assert list_inputs(bucket)["bytes"].tolist()[0] == len(b"no picture")
    folder, _, options = bucket.partition("?")
    assert [image.id for image in list_place(f"{folder}/**/1.png?{options}") or []] == ["deep er/1.png"]


def test_workers_read_a_bucket(bucket: str, ray_cluster: dict[str, object], tmp_path: Path) -> None:
    chain = ChainConfig(alignment="none")
    config = EncodeConfig(input=bucket, store=tmp_path / "store", chain=chain, runs=tmp_path / "runs")
    with pytest.raises(PartlyFailed, match=r"1 of 3 images failed, first: .*in/broken\.png.* is no image"):
        encode(config)
    rows = PromptStore(config.store).rows().set_index("id")
    assert rows["status"].tolist()[0] == "failed"
    assert set(rows["status"].iloc[1:]) <= {"ok", "no_occlusion_prompts"}
    assert rows.loc["deep er/1.png", "image_sha256"] == sha256(encode_png(textured_face(1)[0])).hexdigest()


def test_workers_write_to_a_bucket(
    bucket: str,
    s3_bucket: str,
    ray_cluster: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Driver and workers have no folder in common: the workers' cache is that of the session."""
    monkeypatch.setenv("S3POT_CACHE", str(tmp_path / "driver"))
    place, runs, chain = s3_bucket.format("stores/faces"), tmp_path / "runs", ChainConfig(alignment="none")
    remote = EncodeConfig(input=f"{bucket}", store=place, chain=chain, batch_size=1, runs=runs)
    with pytest.raises(PartlyFailed, match="1 of 3 images failed"):
        encode(remote)
    local = EncodeConfig(input=bucket, store=tmp_path / "store", chain=chain, batch_size=1, runs=runs)
    with pytest.raises(PartlyFailed, match="1 of 3 images failed"):
        encode(local)
    monkeypatch.setenv("S3POT_CACHE", str(tmp_path / "reader"))
    mine, expected = open_store(place), PromptStore(tmp_path / "store")
    columns = [name for name in expected.rows().columns if name != "seconds"]
    pd.testing.assert_frame_equal(mine.rows(columns), expected.rows(columns))
    for one, other in zip(mine.records(), expected.records(), strict=True):
        assert torch.equal(one.image_tokens, other.image_tokens)
    # Taken up by another machine, nothing is left to do.
    with caplog.at_level(logging.INFO, "s3pot.encode"), pytest.raises(PartlyFailed):
        encode(remote)
    assert "3 images, 3 already in" in caplog.text


@pytest.mark.parametrize("name", ["images.parquet", "images.csv"])
def test_ids_are_text_whatever_the_manifest_says(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"id": [7, 8], "path": ["a.png", "b.png"]})
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_csv(tmp_path / name, index=False)
    assert [item["id"] for item in read_items(tmp_path / name)] == ["7", "8"]
