import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from s3pot.store import PromptStore, StoreError
from s3pot.store.compaction import maintenance
from s3pot.store.manifest import append_part, list_parts
from s3pot.store.shards import write_shard
from s3pot.store.verification import Problem, repair, verify
from tests.stored_images import add_images, empty_store, flip_bit, make_old, names_in, tokens_of


@pytest.fixture
def store(tmp_path: Path) -> PromptStore:
    """Two shards of two images each; every file is a day old."""
    store = empty_store(tmp_path / "store")
    add_images(store, "a", "b")
    add_images(store, "c", "d")
    store.append([{"id": "e", "status": "failed", "error": "cut short"}])
    make_old(*store.shards.iterdir(), *store.manifest.iterdir())
    return store


def shard_of(store: PromptStore, image_id: str) -> Path:
    rows = store.rows(["shard"]).set_index("id")
    return store.shards / rows.loc[image_id, "shard"]


def described(problems: list[Problem]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(problem.kind, problem.file.name, problem.images) for problem in problems]


def test_a_whole_store(store: PromptStore) -> None:
    assert verify(store) == []
    assert verify(empty_store(store.root.parent / "empty")) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_in_tokens(path: Path) -> None:
    flip_bit(path, -100)


def flip_in_header(path: Path) -> None:
    flip_bit(path, 40)


def flip_in_length(path: Path) -> None:
    flip_bit(path, 7)


DAMAGES = [
    (truncate, "truncated"),
    (cut_in_header, "truncated"),
    (empty, "truncated"),
    (flip_in_tokens, "damaged"),
    (flip_in_header, "damaged"),
    (flip_in_length, "truncated"),  # the header seems to be longer than the file
]


class TestShards:
    @pytest.mark.parametrize(("damage", "kind"), DAMAGES)
    def test_damage_is_named_and_made_good(self, store: PromptStore, damage: Callable[[Path], None], kind: str) -> None:
        path = shard_of(store, "c")
        damage(path)
        problems = verify(store)
        assert described(problems) == [(kind, path.name, ("c", "d"))]
        assert repair(store, problems) == ["c", "d"]
        assert store.rows()["id"].tolist() == ["a", "b", "e"]
        assert not path.exists()
        assert verify(store) == []
        add_images(store, "c", "d")  # as `encode` does: the very same file
        assert shard_of(store, "c") == path
        assert verify(store) == []
        assert store.records().ids == ["a", "b", "c", "d"]

    def test_a_missing_one(self, store: PromptStore) -> None:
        path = shard_of(store, "a")
        path.unlink()
        problems = verify(store)
        assert described(problems) == [("missing", path.name, ("a", "b"))]
        assert repair(store, problems) == ["a", "b"]
        assert verify(store) == []

    def test_only_images_that_lost_something_are_done_again(self, store: PromptStore) -> None:
        """One of a broken shard has been encoded again elsewhere."""
        path = shard_of(store, "c")
        add_images(store, "d", version=1)
        truncate(path)
        assert repair(store, verify(store)) == ["c"]
        assert store.rows()["id"].tolist() == ["a", "b", "d", "e"]

    def test_an_orphan(self, store: PromptStore) -> None:
        name = write_shard(store.shards, ["x", "y"], {"image_tokens": [tokens_of("x"), tokens_of("y")]})
        assert verify(store) == [], "an encoding may be about to write its rows"
        assert described(verify(store, in_flight_s=0.0)) == [("orphaned", name, ("x", "y"))]
        make_old(store.shards / name)
        problems = verify(store)
        assert described(problems) == [("orphaned", name, ("x", "y"))]
        assert repair(store, problems) == []
        assert len(names_in(store.shards)) == 2

    def test_what_a_killed_writer_left(self, store: PromptStore) -> None:
        left = [folder / ".x.part" for folder in (store.root, store.shards, store.manifest)]
        for path in left:
            path.write_bytes(b"half")
        assert verify(store) == []
        make_old(*left)
        problems = verify(store)
        assert described(problems) == [("leftover", ".x.part", ())] * 3
        repair(store, problems)
        assert not any(path.exists() for path in left)


class TestRows:
    def test_a_place_the_shard_has_not(self, store: PromptStore) -> None:
        shard = shard_of(store, "a").name
        add_images(store, "f", shard=shard, row=2)
        problems = verify(store)
        assert described(problems) == [("dangling", shard, ("f",))]
        assert problems[0].detail == "row 2 of the shard is none of its 2"

    def test_the_place_of_another_image(self, store: PromptStore) -> None:
        shard = shard_of(store, "a").name
        add_images(store, "f", shard=shard, row=1)
        problems = verify(store)
        assert described(problems) == [("dangling", shard, ("f",))]
        assert problems[0].detail == "row 1 of the shard holds b"
        assert repair(store, problems) == ["f"]
        assert store.records().ids == ["a", "b", "c", "d"]

    def test_prompts_without_tokens(self, store: PromptStore) -> None:
        store.append([{"id": "f", "status": "ok"}, {"id": "g", "status": "no_face"}])
        assert described(verify(store)) == [("dangling", "manifest", ("f",))]

    def test_made_by_another_chain(self, store: PromptStore) -> None:
        add_images(store, "f", key="of another chain")
        assert described(verify(store)) == [("foreign", "manifest", ("f",))]
        assert repair(store, verify(store)) == ["f"]

    def test_encoded_more_than_once(self, store: PromptStore) -> None:
        add_images(store, "a", "b")
        add_images(store, "a", "b")
        problems = verify(store)
        assert described(problems) == [("duplicate", "manifest", (name,)) for name in "ab"]
        assert {problem.detail for problem in problems} == {"encoded 3 times"}
        assert repair(store, problems) == []
        assert verify(store) == []
        assert store.records().ids == ["a", "b", "c", "d"]

    def test_encoded_again_for_a_reason(self, store: PromptStore) -> None:
        add_images(store, "a", version=1)  # another file
        store.withdraw(["c"])
        add_images(store, "c")  # withdrawn
        store.append([{"id": "e", "status": "failed", "error": "again"}])  # failed before
        assert verify(store) == []


class TestParts:
    @pytest.mark.parametrize(
        ("damage", "kind"), [(truncate, "truncated"), (empty, "truncated"), (flip_in_header, "damaged")]
    )
    def test_damage_is_named_and_made_good(self, store: PromptStore, damage: Callable[[Path], None], kind: str) -> None:
        part, shard = list_parts(store.manifest)[1], shard_of(store, "c")
        damage(part)
        problems = verify(store)
        assert described(problems) == [(kind, part.name, ()), ("orphaned", shard.name, ("c", "d"))]
        assert repair(store, problems) == []
        assert verify(store) == []
        assert store.rows()["id"].tolist() == ["a", "b", "e"]
        add_images(store, "c", "d")
        assert verify(store) == []
        assert store.records().ids == ["a", "b", "c", "d"]


def test_repairs_do_not_run_beside_each_other(store: PromptStore) -> None:
    truncate(shard_of(store, "a"))
    with maintenance(store.root), pytest.raises(StoreError, match="another process"):
        repair(store, verify(store))
    assert len(store.rows()) == 5


def test_several_things_at_once(store: PromptStore, tmp_path: Path) -> None:
    """After the repair the store is what it was, without the images that lost something."""
    add_images(store, "f", "g")
    add_images(store, "h", "i")
    shards = {name: shard_of(store, name) for name in "acfh"}
    flip_in_tokens(shards["a"])
    shards["c"].unlink()
    append_part(store.manifest, [{"id": "z", "status": "ok", "shard": "nowhere.safetensors", "row": 0}])
    shutil.copy(shards["h"], store.shards / "copy.safetensors")
    make_old(store.shards / "copy.safetensors")
    problems = verify(store)
    assert [problem.kind for problem in problems] == ["damaged", "damaged", "missing", "missing"]
    assert repair(store, problems) == ["a", "b", "c", "d", "z"]
    assert verify(store) == []
    assert names_in(store.shards) == sorted(shards[name].name for name in "fh")
    for path in (*store.shards.iterdir(), *store.manifest.iterdir()):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in path.name
