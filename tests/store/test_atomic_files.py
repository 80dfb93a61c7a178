import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3pot.store import StoreError
from s3pot.store.atomic_files import filesystem_time, sha256_of_bytes, write_file
from s3pot.store.manifest import append_part
from s3pot.store.shards import write_shard
from tests.stored_images import add_images, empty_store, names_in, tokens_of

# Writes 3 MB where 1 MB is allowed, and says what it was told.
_TOO_LARGE = """
import sys
from pathlib import Path
from s3pot.store.atomic_files import write_file
from s3pot.store.errors import StoreError
{limit}
try:
    write_file(Path(sys.argv[1]) / "shards", "large", bytes(3_000_000))
except StoreError as error:
    print(error)
    sys.exit(7)
"""


def test_content_comes_back_and_is_replaced(tmp_path: Path) -> None:
    write_file(tmp_path / "a" / "b", "c", b"one")
    write_file(tmp_path / "a" / "b", "c", b"two")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"two"
    assert names_in(tmp_path / "a" / "b") == ["c"]


def test_known_hash() -> None:
    # FIPS 180-2, appendix B.1
    assert sha256_of_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestNoSpaceLeft:
    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that takes a hundred bytes of every file."""

        def fills(self: Path, data: bytes) -> int:
            with self.open("wb") as opened:
                opened.write(data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

        monkeypatch.setattr(Path, "write_bytes", fills)

    @pytest.mark.usefixtures("full")
    def test_a_shard_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"shards/\w{64}\.safetensors.*No space left on device.*MB free"):
            write_shard(tmp_path / "shards", ["a"], {"image_tokens": [tokens_of("a")]})
        assert names_in(tmp_path / "shards") == []

    @pytest.mark.usefixtures("full")
    def test_a_part_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"manifest/\d{20}-\w{64}\.parquet.*No space left on device.*MB free"):
            append_part(tmp_path / "manifest", [{"id": "a", "status": "ok"}])
        assert names_in(tmp_path / "manifest") == []

    def test_what_was_there_stays(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        store = empty_store(tmp_path / "store")
        shard = add_images(store, "a")
        request.getfixturevalue("full")
        with pytest.raises(StoreError, match="No space left"):
            add_images(store, "b")
        assert store.rows()["id"].tolist() == store.records().ids == ["a"]
        assert names_in(store.shards) == [shard]

    def test_a_limit_of_the_system(self, tmp_path: Path, repository: Path) -> None:
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
        code, said = run(_TOO_LARGE.format(limit=limit), tmp_path, repository)
        assert code == 7, said
        assert "shards/large: cannot be written: File too large (3.0 MB to write" in said
        assert names_in(tmp_path / "shards") == []

    def test_a_small_disk(self, tmp_path: Path, repository: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("this user may not mount a small disk")
        try:
            code, said = run(_TOO_LARGE.format(limit=""), disk, repository)
            left = names_in(disk / "shards")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        assert code == 7, said
        assert "shards/large: cannot be written: No space left on device (3.0 MB to write, 1.0 MB free)" in said
        assert left == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/shards/a: cannot be written: Not a directory"):
        write_file(tmp_path / "file" / "shards", "a", b"")


def test_the_time_is_that_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    now = filesystem_time(tmp_path)
    (tmp_path / "after").touch()
    assert (tmp_path / "before").stat().st_mtime <= now <= (tmp_path / "after").stat().st_mtime
    assert names_in(tmp_path) == ["after", "before"]
    with pytest.raises(StoreError, match="cannot be written to"):
        filesystem_time(tmp_path / "missing")


def run(code: str, folder: Path, repository: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=repository, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr
