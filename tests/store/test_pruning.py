from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pandas.testing import assert_frame_equal

from s3pot.store import PromptStore, StoreError, pruning
from s3pot.store.compaction import maintenance
from s3pot.store.pruning import prune
from s3pot.store.shards import read_row, read_shard_ids, write_shard
from s3pot.store.token_format import TokenFormat
from s3pot.store.verification import verify
from tests.stored_images import add_images, content_of, empty_store, flip_bit, make_old, names_in, tokens_of


@pytest.fixture(params=["fp16", "int8"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> PromptStore:
    """Three shards: a b c, d, e f; all of it just written."""
    tokens: TokenFormat = request.param
    store = empty_store(tmp_path / "store", tokens=tokens)
    for names in ("abc", "d", "ef"):
        add_images(store, *names)
    return store


def traces_of(store: PromptStore, image_id: str, version: int = 0) -> list[str]:
    """Return files that still hold something of an image: its tokens, its picture, or a row without one."""
    picture, tokens = content_of(image_id, version), tokens_of(image_id, version)
    found = []
    for path in (path for path in store.root.rglob("*") if path.is_file()):
        if path.suffix == ".safetensors":
            ids = read_shard_ids(path)
            alike = [
                (read_row(path, "image_tokens", row).float() - tokens).abs().max() < 0.02 for row in range(len(ids))
            ]
            assert not any(alike[row] and name != image_id for row, name in enumerate(ids))
            if any(alike):
                found.append(path.name)
        elif path.suffix == ".parquet":
            table = pq.read_table(path, columns=["id", "reference_jpeg"])
            held = table["reference_jpeg"].to_pylist()
            if picture in held or (version == 0 and None in held and image_id in table["id"].to_pylist()):
                found.append(path.name)
    return found


def tokens_by_id(store: PromptStore) -> dict[str, torch.Tensor]:
    return {record.id: record.image_tokens for record in store.records()}


class TestRemovingImages:
    def test_nothing_of_them_is_left(self, store: PromptStore) -> None:
        rows, tokens = store.rows(), tokens_by_id(store)
        assert all(traces_of(store, name) for name in "bdef"), "would traces be seen at all?"
        done = prune(store, ["b", "d"])
        assert (done.ids, done.unknown, done.held_back) == (("b", "d"), (), ())
        assert (done.shards_removed, done.shards_rewritten) == (1, 1)
        assert done.bytes_freed > 0
        assert traces_of(store, "b") == traces_of(store, "d") == []
        kept = store.rows()
        columns = [column for column in kept.columns if column not in ("shard", "row")]
        assert_frame_equal(kept[columns], rows[~rows["id"].isin(["b", "d"])].reset_index(drop=True)[columns])
        for name, found in tokens_by_id(store).items():
            assert torch.equal(found, tokens[name])
        assert verify(store, in_flight_s=0.0) == []
        assert len(names_in(store.shards)) == 2
        assert len(names_in(store.manifest)) == 1

    def test_nor_of_what_they_were_before(self, store: PromptStore) -> None:
        """An earlier file of the image, a withdrawn row, and a row that a later one replaced."""
        add_images(store, "b", "g", version=1)
        store.withdraw(["b"])
        add_images(store, "b", version=2)
        assert all(traces_of(store, "b", version) for version in range(3))
        prune(store, ["b"])
        assert [traces_of(store, "b", version) for version in range(3)] == [[], [], []]
        assert store.records().ids == ["a", "c", "d", "e", "f", "g"]
        assert verify(store, in_flight_s=0.0) == []

    def test_nor_in_an_orphan(self, store: PromptStore) -> None:
        name = write_shard(store.shards, ["b"], {"image_tokens": [tokens_of("b", 5)]}, store.tokens)
        done = prune(store, ["b"])
        assert done.held_back == (str(store.shards / name),), "too young to touch, and said"
        make_old(store.shards / name)
        done = prune(store, ["b"])
        assert (done.ids, done.unknown, done.held_back) == ((), ("b",), ())
        assert traces_of(store, "b", 5) == []

    def test_all_of_them(self, store: PromptStore) -> None:
        prune(store, list("abcdef"))
        assert len(store.rows()) == 0
        assert names_in(store.shards) == names_in(store.manifest) == []

    def test_unknown_ones_are_named(self, store: PromptStore) -> None:
        assert prune(store, ["b", "x"]).unknown == ("x",)
        assert store.records().ids == ["a", "c", "d", "e", "f"]

    def test_those_without_tokens(self, store: PromptStore) -> None:
        store.append([{"id": "g", "status": "failed", "path": "/nowhere/g.png"}])
        assert traces_of(store, "g")
        prune(store, ["g"])
        assert traces_of(store, "g") == []

    def test_a_photograph_goes_with_all_its_faces(self, tmp_path: Path) -> None:
        store = empty_store(tmp_path / "faces", faces="all")
        add_images(store, "a.jpg", "a.jpg#2", "b.jpg", "b.jpg#2")
        done = prune(store, ["a.jpg", "b.jpg#2"])
        assert (done.ids, done.unknown) == (("a.jpg", "a.jpg#2", "b.jpg#2"), ())
        assert store.records().ids == ["b.jpg"]

    @pytest.mark.parametrize("step", ["keep_rows", "compact_parts", "removal of shards"])
    def test_a_pruning_that_was_killed_is_finished_by_the_next(
        self, store: PromptStore, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(*arguments: object) -> None:
            raise KeyboardInterrupt

        def dies_at_a_shard(self: Path, missing_ok: bool = False) -> None:
            dies() if self.suffix == ".safetensors" else unlink(self, missing_ok)

        unlink = Path.unlink
        with monkeypatch.context() as patched:
            if step == "removal of shards":
                patched.setattr(Path, "unlink", dies_at_a_shard)
            else:
                patched.setattr(pruning, step, dies)
            with pytest.raises(KeyboardInterrupt):
                prune(store, ["b", "d"])
        assert store.records().ids == ["a", "c", "e", "f"], "out of sight at once"
        assert len(tokens_by_id(store)) == 4
        prune(store, ["b", "d"], in_flight_s=0.0)
        assert traces_of(store, "b") == traces_of(store, "d") == []
        assert store.records().ids == ["a", "c", "e", "f"]
        assert verify(store, in_flight_s=0.0) == []


class TestRemains:
    def test_of_a_sound_store_nothing_is_removed(self, store: PromptStore) -> None:
        shards, rows = names_in(store.shards), store.rows()
        done = prune(store)
        assert (done.ids, done.shards_removed, done.shards_rewritten) == ((), 0, 0)
        assert names_in(store.shards) == shards
        assert len(names_in(store.manifest)) == 1
        assert_frame_equal(store.rows(), rows)

    def test_old_orphans_and_leftovers_go_and_young_ones_stay(self, store: PromptStore) -> None:
        names = [write_shard(store.shards, [name], {"image_tokens": [tokens_of(name)]}) for name in "xy"]
        left = [store.shards / ".x.part", store.manifest / ".y.part"]
        for path in left:
            path.write_bytes(b"half")
        make_old(store.shards / names[0], left[0])
        prune(store)
        assert not (store.shards / names[0]).exists()
        assert not left[0].exists()
        assert (store.shards / names[1]).exists()
        assert left[1].exists()

    def test_superseded_tokens_go(self, store: PromptStore) -> None:
        add_images(store, "b", version=1)
        done = prune(store)
        assert (done.shards_rewritten, done.ids) == (1, ())
        assert traces_of(store, "b") == []
        assert len(traces_of(store, "b", 1)) == 2
        assert store.records().ids == list("abcdef")


class TestRefusals:
    def test_a_damaged_shard_is_left_to_repair(self, store: PromptStore) -> None:
        path = store.shards / store.rows(["shard"]).set_index("id").loc["a", "shard"]
        flip_bit(path, -50)
        with pytest.raises(StoreError, match=rf"{path.name}.*verify --repair"):
            prune(store, ["b"])
        assert len(tokens_by_id(store)) == 5

    def test_rows_that_lead_to_other_images(self, store: PromptStore) -> None:
        shard = store.rows(["shard"]).set_index("id").loc["a", "shard"]
        add_images(store, "g", shard=shard, row=0)
        with pytest.raises(StoreError, match=rf"{shard}: is not what its rows say.*verify --repair"):
            prune(store)

    def test_one_at_a_time(self, store: PromptStore) -> None:
        with maintenance(store.root), pytest.raises(StoreError, match="another process"):
            prune(store, ["b"])
        assert len(store.rows()) == 6
