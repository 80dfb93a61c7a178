import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ray_jobs.cli import app
from s3pot.store import PromptStore
from s3pot.store.shards import write_shard
from tests.stored_images import add_images, content_of, empty_store, flip_bit, make_old, tokens_of


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["store", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def store(tmp_path: Path) -> PromptStore:
    store = empty_store(tmp_path / "store", sam="nano")
    for names in (("a", "b"), ("c",)):
        for name in names:
            (tmp_path / name).write_bytes(content_of(name))
        add_images(store, *names)
    store.append([{"id": "d", "status": "failed", "error": "cut short"}])
    return store


class TestInfo:
    def test_in_words(self, store: PromptStore) -> None:
        result = run("info", store.root)
        assert result.exit_code == 0
        for line in ("images     4: 1 failed, 3 ok", "schema     version 2", "identity   feedc0de", "  sam: nano"):
            assert f"{line}\n" in result.stdout
        assert " as fp16 in 2 shards" in result.stdout

    def test_for_machines(self, store: PromptStore) -> None:
        said = json.loads(run("info", store.root, "--json").stdout)
        assert said["images"] == {"ok": 3, "failed": 1}
        assert said["tokens"] == "fp16"
        assert said["chain"] == {"sam": "nano"}

    def test_no_store(self, tmp_path: Path) -> None:
        result = run("info", tmp_path)
        assert result.exit_code == 2
        assert (
            result.stderr == f"error: {tmp_path}: no store here (store.json is missing): make one with `s3pot encode`\n"
        )


class TestVerify:
    def test_a_whole_store(self, store: PromptStore) -> None:
        result = run("verify", store.root)
        assert (result.exit_code, result.stdout) == (0, f"{store.root}: whole\n")

    def test_damage_is_named_repaired_and_gone(self, store: PromptStore) -> None:
        path = store.shards / store.rows(["shard"]).set_index("id").loc["a", "shard"]
        flip_bit(path, -1)
        result = run("verify", store.root)
        assert result.exit_code == 1
        assert f"damaged   {path} [a, b]: its content has the SHA-256 " in result.stdout
        assert f"1 problems: s3pot store verify --repair {store.root}" in result.stdout
        assert path.exists(), "nothing is changed unless asked for"
        said = run("verify", store.root, "--repair", "--json")
        assert said.exit_code == 1
        assert json.loads(said.stdout)["encode_again"] == ["a", "b"]
        [problem] = json.loads(said.stdout)["problems"]
        assert (problem["kind"], problem["file"], problem["images"]) == ("damaged", str(path), ["a", "b"])
        assert run("verify", store.root).exit_code == 0
        assert store.rows()["id"].tolist() == ["c", "d"]

    def test_files_of_an_encoding_at_work(self, store: PromptStore) -> None:
        write_shard(store.shards, ["x"], {"image_tokens": [tokens_of("x")]})
        assert run("verify", store.root).exit_code == 0
        result = run("verify", store.root, "--in-flight", "0", "--repair")
        assert result.exit_code == 1
        assert "orphaned  " in result.stdout
        assert "[x]" in result.stdout
        assert len(list(store.shards.iterdir())) == 2


class TestMerge:
    def test_two_stores(self, store: PromptStore, tmp_path: Path) -> None:
        other = empty_store(tmp_path / "other", sam="nano")
        add_images(other, "e")
        result = run("merge", store.root, other.root, "--into", tmp_path / "merged")
        assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'merged'}: 5 images of 2 stores\n")
        assert PromptStore(tmp_path / "merged").records().ids == ["a", "b", "c", "e"]

    def test_a_conflict(self, store: PromptStore, tmp_path: Path) -> None:
        other = empty_store(tmp_path / "other", sam="nano")
        add_images(other, "a", version=1)
        result = run("merge", store.root, other.root, "--into", tmp_path / "merged")
        assert result.exit_code == 2
        assert "different keys" in result.stderr
        assert not (tmp_path / "merged").exists()


class TestPrune:
    def test_by_id_and_by_file(self, store: PromptStore, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("b\n\n d \n")
        arguments = ("prune", store.root, "--id", "a", "--ids", tmp_path / "ids.txt")
        result = run(*arguments, "--dry-run")
        assert (result.exit_code, result.stdout) == (0, "a\nb\nd\n")
        assert len(store.rows()) == 4
        result = run(*arguments)
        assert result.exit_code == 0, result.stderr
        assert "3 rows removed, 1 shards removed and 0 written anew" in result.stdout
        assert store.rows()["id"].tolist() == ["c"]

    def test_an_unknown_id_is_said(self, store: PromptStore) -> None:
        result = run("prune", store.root, "--id", "x", "--id", "a")
        assert result.exit_code == 1
        assert f"not in {store.root}, or removed before: x\n" in result.stderr
        assert store.rows()["id"].tolist() == ["b", "c", "d"]

    def test_what_cannot_be_touched_yet_is_said(self, store: PromptStore) -> None:
        name = write_shard(store.shards, ["a"], {"image_tokens": [tokens_of("a", 3)]})
        result = run("prune", store.root, "--id", "a")
        assert result.exit_code == 1
        assert name in result.stderr
        assert run("prune", store.root, "--in-flight", "0").exit_code == 0
        assert not (store.shards / name).exists()

    def test_images_whose_file_is_gone(self, tmp_path: Path) -> None:
        store = empty_store(tmp_path / "store")
        for name in "ab":
            (tmp_path / name).write_bytes(b"")
            add_images(store, name, path=str(tmp_path / name))
        (tmp_path / "b").unlink()
        assert run("prune", store.root, "--gone").exit_code == 0
        assert store.rows()["id"].tolist() == ["a"]
        (tmp_path / "a").unlink()
        result = run("prune", store.root, "--gone")
        assert result.exit_code == 2
        assert "is the disk mounted?" in result.stderr
        assert store.rows()["id"].tolist() == ["a"]

    def test_only_remains(self, store: PromptStore) -> None:
        name = write_shard(store.shards, ["x"], {"image_tokens": [tokens_of("x")]})
        make_old(store.shards / name)
        result = run("prune", store.root)
        assert "0 rows removed, 1 shards removed" in result.stdout
        assert len(list(store.manifest.iterdir())) == 1
        assert store.rows()["id"].tolist() == ["a", "b", "c", "d"]
