"""Stores below a URI, here `file://`: what one machine writes, another reads; they share nothing but the URI."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from s3pot.chain import ChainConfig
from s3pot.machine_cache import cache_folder
from s3pot.store.errors import StoreError
from s3pot.store.manifest import list_parts
from s3pot.store.prompt_store import PromptStore
from s3pot.store.remote_store import RemoteStore, create_store, open_store, store_exists, store_root
from tests.stored_images import add_images, empty_store, flip_bit, names_in, tokens_of


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Folder of an empty store that is reached by its URI only."""
    return empty_store(tmp_path / "there").root


def on_machine(name: str, there: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
    """Open the store as a machine does that has a cache of its own."""
    monkeypatch.setenv("S3POT_CACHE", str(there.parent / f"cache of {name}"))
    return RemoteStore(f"file://{there}")


def test_what_one_machine_writes_another_reads(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = on_machine("writer", there, monkeypatch)
    add_images(writer, "a", "b")
    add_images(writer, "c")
    reader = on_machine("reader", there, monkeypatch)
    assert reader.root != writer.root
    assert reader.rows(["status"])["id"].tolist() == ["a", "b", "c"]
    for record in reader.records({"b", "c"}):
        assert torch.equal(record.image_tokens, tokens_of(record.id))
    pd.testing.assert_frame_equal(reader.rows(), PromptStore(there).rows())


def test_shards_are_fetched_when_they_are_asked_for(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = on_machine("writer", there, monkeypatch)
    add_images(writer, "a")
    shard = add_images(writer, "b")
    reader = on_machine("reader", there, monkeypatch)
    records = reader.records({"b"})
    assert not reader.shards.exists()
    assert records[0].id == "b"
    assert names_in(reader.shards) == [shard]


def test_a_reader_follows_writers_and_withdrawals(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = on_machine("writer", there, monkeypatch)
    reader = on_machine("reader", there, monkeypatch)
    assert len(reader.rows()) == 0
    add_images(writer, "a", "b")
    assert reader.rows(["status"])["id"].tolist() == ["a", "b"]
    assert reader.withdraw(["a"]) == ["a"]
    assert writer.rows(["status"])["id"].tolist() == ["b"]


def test_a_withdrawal_comes_before_what_is_written_after_it_by_a_slow_clock(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = on_machine("writer", there, monkeypatch)
    add_images(writer, "a")
    writer.withdraw(["a"])
    other = on_machine("other", there, monkeypatch)
    monkeypatch.setattr("s3pot.store.manifest.time.time_ns", lambda: 1)
    add_images(other, "a", version=1)
    assert writer.rows(["occlusion_prompts"])["occlusion_prompts"].tolist() == [[1]]


def test_compaction_reaches_the_uri_and_all_readers(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = on_machine("writer", there, monkeypatch)
    for name in "abc":
        add_images(writer, name)
    reader = on_machine("reader", there, monkeypatch)
    before = reader.rows()
    writer.compact()
    assert len(list_parts(there / "manifest")) == 1
    pd.testing.assert_frame_equal(reader.rows(), before)
    assert len(list_parts(reader.manifest)) == 1


def test_a_part_that_did_not_arrive_does_not_count(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = on_machine("writer", there, monkeypatch)

    def fail(place: str, data: bytes) -> None:
        if "manifest" in place:
            raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr("s3pot.store.remote_store.write_place", fail)
        with pytest.raises(StoreError, match=r"manifest/.*cannot be written: connection"):
            add_images(writer, "a")
    assert len(writer.rows()) == 0
    add_images(writer, "a")
    assert len(writer.rows()) == 1


def test_bytes_that_changed_on_the_way_are_refused(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = add_images(on_machine("writer", there, monkeypatch), "a")
    flip_bit(there / "shards" / shard, -1)
    reader = on_machine("reader", there, monkeypatch)
    with pytest.raises(StoreError, match=f"{shard}: its bytes are not those that were written"):
        reader.records()[0]
    assert not reader.shards.exists()


def test_a_store_that_was_made_anew_replaces_the_copies(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = on_machine("reader", there, monkeypatch)
    add_images(reader, "a")
    there.rename(there.with_name("old"))
    add_images(empty_store(there, identity="0ther"), "b")
    again = on_machine("reader", there, monkeypatch)
    assert again.description["identity"] == "0ther"
    assert again.rows(["status"])["id"].tolist() == ["b"]


class TestOpening:
    def test_a_folder_is_a_store_like_any_other(self, there: Path) -> None:
        assert type(open_store(there)) is type(open_store(str(there))) is PromptStore
        assert store_root(there) == there
        assert store_exists(there)
        assert not store_exists(there / "nowhere")

    def test_no_store_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"nowhere: no store here"):
            open_store(f"file://{tmp_path}/nowhere")
        assert not store_exists(f"file://{tmp_path}/nowhere")
        with pytest.raises(StoreError, match=r"nosuch://bucket/x: cannot be read"):
            open_store("nosuch://bucket/x")

    def test_is_made_when_missing_and_continued_by_the_same_chain_only(
        self, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("S3POT_CACHE", str(tmp_path / "cache"))
        place, chain = f"file://{tmp_path}/deep/store", ChainConfig(alignment="none")
        made = create_store(place, chain, "int8")
        assert made.name == "store"
        assert made.root == store_root(place) == cache_folder(place)
        assert PromptStore(tmp_path / "deep" / "store").description == made.description
        assert create_store(place, chain).tokens == "int8"
        with pytest.raises(StoreError, match="keeps its tokens as int8, not as fp16"):
            create_store(place, chain, "fp16")
        with pytest.raises(StoreError, match="made by another configuration"):
            create_store(place, ChainConfig(alignment="detect"))
