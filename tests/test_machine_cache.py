import multiprocessing
import os
from pathlib import Path

import pytest

from s3pot import machine_cache
from s3pot.machine_cache import cache_folder, cached_file, one_at_a_time


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a folder with one file."""
    monkeypatch.setenv("S3POT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.bin").write_bytes(b"first")
    return f"file://{tmp_path}/there"


def test_a_file_is_fetched_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = cached_file(folder, "a.bin")
    assert copy == cache_folder(folder) / "a.bin"
    assert copy.read_bytes() == b"first"
    monkeypatch.setattr(machine_cache, "copy_place", None)  # would fail
    assert cached_file(folder, "a.bin") == copy


def test_a_file_that_changed_is_fetched_again(folder: str, tmp_path: Path) -> None:
    cached_file(folder, "a.bin")
    original = tmp_path / "there" / "a.bin"
    original.write_bytes(b"again")  # as long as before
    os.utime(original, (0, 0))
    copy = cached_file(folder, "a.bin")
    assert copy is not None
    assert copy.read_bytes() == b"again"


def test_a_fetch_that_was_cut_short_is_done_again(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(place: str, to: Path) -> None:
        to.write_bytes(b"fi")
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(machine_cache, "copy_place", broken)
        with pytest.raises(OSError, match="connection lost"):
            cached_file(folder, "a.bin")
    copy = cached_file(folder, "a.bin")
    assert copy is not None
    assert copy.read_bytes() == b"first"


def test_no_such_file(folder: str) -> None:
    assert cached_file(folder, "b.bin") is None


def test_places_do_not_share_a_folder(folder: str) -> None:
    assert cache_folder(folder) != cache_folder(f"{folder}2")


def _append(folder: Path) -> None:
    with one_at_a_time(folder):
        text = (folder / "log").read_text() if (folder / "log").exists() else ""
        (folder / "log").write_text(f"{text}x")


def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_append, [tmp_path] * 40)
    assert (tmp_path / "log").read_text() == "x" * 40
