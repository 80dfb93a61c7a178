import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from s3pot.store import PromptStore, StoreError, merging
from s3pot.store.manifest import WITHDRAWN
from s3pot.store.merging import merge
from s3pot.store.verification import verify
from tests.stored_images import add_images, empty_store, names_in, tokens_of


@pytest.fixture
def first(tmp_path: Path) -> PromptStore:
    store = empty_store(tmp_path / "first", sam="nano")
    add_images(store, "d", "a")
    add_images(store, "e")
    return store


@pytest.fixture
def second(tmp_path: Path) -> PromptStore:
    store = empty_store(tmp_path / "second", sam="nano")
    add_images(store, "c", "b")
    return store


@pytest.mark.parametrize("links", [True, False])
def test_rows_and_tokens_of_all(
    first: PromptStore, second: PromptStore, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuses(source: Path, target: Path) -> None:
            raise OSError("Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuses)
    merged = merge([first, second], tmp_path / "merged")
    expected = pd.concat([first.rows(), second.rows()]).sort_values("id", ignore_index=True)
    assert_frame_equal(merged.rows(), expected)
    assert merged.records().ids == list("abcde")
    for record in merged.records():
        assert torch.equal(record.image_tokens, tokens_of(record.id))
    assert merged.description == first.description
    assert verify(merged, in_flight_s=0.0) == []
    assert names_in(tmp_path) == ["first", "merged", "second"]
    shard = names_in(second.shards)[0]
    assert os.path.samefile(second.shards / shard, merged.shards / shard) == links


class TestTheSameImageInSeveral:
    def test_with_the_same_key_is_taken_once(self, first: PromptStore, second: PromptStore, tmp_path: Path) -> None:
        add_images(second, "a", kind="of the second")
        merged = merge([first, second], tmp_path / "merged")
        assert merged.rows(["kind"]).set_index("id").loc["a", "kind"] is None
        assert merged.records().ids == list("abcde")
        assert verify(merged, in_flight_s=0.0) == [], "the shard of the one not taken is not linked"

    def test_with_other_keys_is_refused_and_named(
        self, first: PromptStore, second: PromptStore, tmp_path: Path
    ) -> None:
        add_images(second, "a", "e", version=1)
        match = rf"^2 images have the same id and different keys.*: a \({first.root}, {second.root}\), e \("
        with pytest.raises(StoreError, match=match):
            merge([first, second], tmp_path / "merged")
        assert names_in(tmp_path) == ["first", "second"]

    def test_without_keys_is_refused(self, first: PromptStore, second: PromptStore, tmp_path: Path) -> None:
        add_images(second, "a", image_sha256=None)
        with pytest.raises(StoreError, match="1 images have the same id"):
            merge([first, second], tmp_path / "merged")

    @pytest.mark.parametrize("failed_first", [True, False])
    def test_that_failed_in_one_is_taken_from_the_other(
        self, first: PromptStore, second: PromptStore, tmp_path: Path, failed_first: bool
    ) -> None:
        first.append([{"id": name, "status": "failed", "error": "here"} for name in "xy"])
        add_images(second, "x")
        second.append([{"id": "y", "status": "failed", "error": "there"}])
        stores = [first, second] if failed_first else [second, first]
        rows = merge(stores, tmp_path / "merged").rows().set_index("id")
        assert rows.loc["x", "status"] == "ok"
        assert rows.loc["y", "error"] == ("here" if failed_first else "there")

    def test_what_does_not_count_any_more_is_no_conflict(
        self, first: PromptStore, second: PromptStore, tmp_path: Path
    ) -> None:
        add_images(second, "a", version=1)
        first.append([{"id": "a", "status": WITHDRAWN}])
        merged = merge([first, second], tmp_path / "merged")
        assert torch.equal(merged.records()[0].image_tokens, tokens_of("a", 1))


class TestRefusals:
    def test_stores_of_other_chains_or_formats(self, first: PromptStore, tmp_path: Path) -> None:
        chain = empty_store(tmp_path / "chain", identity="another", sam="nano")
        form = empty_store(tmp_path / "form", tokens="int8", sam="nano")
        with pytest.raises(StoreError, match=r"chain and .*first do not go together: identity another and feedc0de"):
            merge([first, chain], tmp_path / "merged")
        with pytest.raises(StoreError, match=r"form and .*first do not go together: tokens int8 and fp16"):
            merge([first, form], tmp_path / "merged")
        assert not (tmp_path / "merged").exists()

    def test_a_folder_that_is_there(self, first: PromptStore, second: PromptStore) -> None:
        with pytest.raises(StoreError, match="first: is there already"):
            merge([first, second], first.root)

    def test_a_missing_shard(self, first: PromptStore, second: PromptStore, tmp_path: Path) -> None:
        shard = names_in(second.shards)[0]
        (second.shards / shard).unlink()
        with pytest.raises(StoreError, match=rf"{shard}: shard missing: `s3pot store verify --repair {second.root}`"):
            merge([first, second], tmp_path / "merged")
        assert names_in(tmp_path) == ["first", "second"]

    def test_a_merge_that_was_killed_leaves_no_store(
        self, first: PromptStore, second: PromptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(merging, "write_parts", dies)
            with pytest.raises(KeyboardInterrupt):
                merge([first, second], tmp_path / "merged")
        assert names_in(tmp_path) == ["first", "second"]


def test_empty_stores(tmp_path: Path) -> None:
    stores = [empty_store(tmp_path / name) for name in "ab"]
    merged = merge(stores, tmp_path / "merged")
    assert len(merged.rows()) == len(merged.records()) == 0
