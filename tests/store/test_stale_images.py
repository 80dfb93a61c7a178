from pathlib import Path
from typing import Any

import pytest

from s3pot.store import PromptStore, StoreError
from s3pot.store.stale_images import gone_ids, stale_ids
from tests.stored_images import add_images, content_of, empty_store


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    for name in "abc":
        (tmp_path / name).write_bytes(content_of(name))
    return [{"id": name, "path": str(tmp_path / name)} for name in "cab"]


@pytest.fixture
def store(tmp_path: Path, items: list[dict[str, Any]]) -> PromptStore:
    store = empty_store(tmp_path / "store")
    for item in items:
        add_images(store, item["id"], path=item["path"])
    return store


class TestStale:
    def test_nothing_changed(self, store: PromptStore, items: list[dict[str, Any]]) -> None:
        assert stale_ids(store, items) == []
        for item in items:
            Path(item["path"]).touch()
        assert stale_ids(store, items) == []

    def test_changed_files_in_the_order_of_the_items(
        self, store: PromptStore, items: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(content_of("a", 1))
        (tmp_path / "c").write_bytes(content_of("c", 1))
        assert stale_ids(store, items) == ["c", "a"]
        store.withdraw(["a"])
        assert stale_ids(store, items) == ["c"], "what is not in the store is missing, not stale"
        add_images(store, "a", version=1)
        assert stale_ids(store, items) == ["c"]

    def test_another_file_under_the_same_id(self, store: PromptStore, items: list[dict[str, Any]]) -> None:
        assert stale_ids(store, [{"id": "a", "path": items[0]["path"]}]) == ["a"]

    def test_a_missing_file_is_not_stale(self, store: PromptStore, items: list[dict[str, Any]], tmp_path: Path) -> None:
        (tmp_path / "b").unlink()
        assert stale_ids(store, items) == []

    def test_a_file_that_could_not_be_read_and_can_now(
        self, store: PromptStore, items: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        late = {"id": "late", "path": str(tmp_path / "late")}
        store.append([late | {"status": "failed", "error": "no such file"}])
        assert stale_ids(store, [*items, late]) == []
        (tmp_path / "late").write_bytes(b"now")
        assert stale_ids(store, [*items, late]) == ["late"]


class TestGone:
    def test_files_that_are_not_there(self, store: PromptStore, tmp_path: Path) -> None:
        assert gone_ids(store) == []
        (tmp_path / "b").unlink()
        assert gone_ids(store) == ["b"]

    def test_uris(self, store: PromptStore, tmp_path: Path) -> None:
        (tmp_path / "there").write_bytes(b"")
        for name in ("there", "away"):
            store.append([{"id": name, "status": "failed", "path": f"file://{tmp_path / name}"}])
        assert gone_ids(store) == ["away"]

    def test_a_disk_that_is_not_mounted_empties_no_store(self, store: PromptStore, tmp_path: Path) -> None:
        for name in "abc":
            (tmp_path / name).unlink()
        with pytest.raises(StoreError, match=r"not one of its 3 image files is there.*mounted"):
            gone_ids(store)

    def test_an_empty_store(self, tmp_path: Path) -> None:
        assert gone_ids(empty_store(tmp_path / "empty")) == []
