import errno
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from s3pot.places import join_place, read_place
from s3pot.store import atomic_files
from s3pot.store.errors import StoreError
from s3pot.store.place_files import remove_result, result_names, write_result


@pytest.fixture(params=["path", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder that is not there yet, said in three ways."""
    places = {"path": f"{tmp_path}/out", "file": f"file://{tmp_path}/out", "memory": "memory://written"}
    yield places[request.param]
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/written", recursive=True)


def test_what_is_written_is_there_and_can_be_removed(folder: str) -> None:
    assert result_names(folder) == []
    write_result(join_place(folder, "b.txt"), b"second")
    write_result(join_place(folder, "a.txt"), b"old")
    write_result(join_place(folder, "a.txt"), b"first")
    write_result(join_place(folder, "deep er/down/c.txt"), b"third")
    assert result_names(folder) == ["a.txt", "b.txt"], "files, by name, and no folders"
    assert read_place(join_place(folder, "a.txt")) == b"first"
    assert read_place(join_place(folder, "deep er/down/c.txt")) == b"third"
    for _ in range(2):  # what is not there is none the worse
        remove_result(join_place(folder, "a.txt"))
    assert result_names(folder) == ["b.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        path.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_files.Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"a\.txt: cannot be written: No space left"):
        write_result(str(tmp_path / "a.txt"), b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_refuses_is_one_sentence_without_keys(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"^file://.*file/a\.txt: cannot be written: .* run the command again"):
        write_result(f"file://{tmp_path}/file/a.txt", b"data")
    with pytest.raises(StoreError, match=r"^nosuch://bucket/a\.txt: cannot be written") as refused:
        write_result("nosuch://key:secret@bucket/a.txt?option=1", b"data")
    assert "option" not in str(refused.value).partition(":")[0]


def test_what_cannot_be_removed_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(StoreError, match="folder: cannot be removed"):
        remove_result(str(tmp_path / "folder"))
