from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from s3pot.images import ImageError, write_png
from s3pot.places import is_uri, join_place, list_place, parent_place, read_place, shown_place

NAMES = ["a.png", "b/c d.jpg", "b/e.png", "b/x/f.png", "notes.txt", "b/.hidden.png"]
IMAGES = ["a.png", "b/c d.jpg", "b/e.png", "b/x/f.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of known content below folders; what they hold is not looked at."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def memory() -> Iterator[str]:
    """The same in fsspec's memory, a file system that pyarrow does not know."""
    filesystem = fsspec.filesystem("memory")
    for name in NAMES:
        filesystem.pipe(f"/place/{name}", name.encode())
    yield "memory://place"
    filesystem.rm("/place", recursive=True)


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, folder: Path, memory: str) -> str:
    """One folder, said in three ways."""
    return {"path": str(folder), "file": f"file://{folder}", "memory": memory}[request.param]


def listed(place: str) -> list[str]:
    found = list_place(place)
    assert found is not None
    return [image.id for image in found]


def test_images_of_a_folder_are_listed_and_read(place: str) -> None:
    found = list_place(place)
    assert found is not None
    assert [image.id for image in found] == IMAGES
    for image in found:
        assert read_place(image.place) == image.id.encode()
        assert image.bytes == len(image.id)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", ["a.png", "b/e.png", "b/x/f.png"]),
        ("*/*.???", ["b/c d.jpg", "b/e.png"]),
        ("[!b].png", ["a.png"]),
        ("b/*.png", ["e.png"]),
        ("b/**", ["c d.jpg", "e.png", "x/f.png"]),
    ],
)
def test_a_glob(place: str, pattern: str, expected: list[str]) -> None:
    assert listed(f"{place}/{pattern}") == expected


def test_nothing_to_list(place: str, folder: Path) -> None:
    with pytest.raises(ImageError, match="no image matches"):
        list_place(f"{place}/*.webp")
    assert list_place(f"{place}/a.png") is None
    assert list_place(f"{place}/nowhere") is None
    with pytest.raises(OSError, match=r"nowhere\.png"):
        read_place(f"{place}/nowhere.png")


def test_a_folder_whose_name_looks_like_a_glob(folder: Path) -> None:
    write_png(folder / "photos [1]" / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert listed(str(folder / "photos [1]")) == ["a.png"]


def test_an_unknown_file_system_is_one_sentence() -> None:
    with pytest.raises(OSError, match="nosuch://bucket: no file system for it"):
        list_place("nosuch://bucket/photos")


def test_names_are_joined() -> None:
    assert not is_uri("photos/a.png")
    assert join_place("/data", "a.png") == "/data/a.png"
    assert join_place("/data", "/other/a.png") == "/other/a.png"
    assert join_place("/data", "s3://bucket/a.png") == "s3://bucket/a.png"
    options = "?endpoint_override=127.0.0.1:1&scheme=http"
    assert join_place(f"s3://bucket/in{options}", "b/a.png") == f"s3://bucket/in/b/a.png{options}"
    assert parent_place(f"s3://bucket/in/m.csv{options}") == f"s3://bucket/in{options}"
    assert parent_place("/data/m.csv") == "/data"


def test_what_is_shown_of_a_place_holds_no_secrets() -> None:
    assert shown_place("/data/a b.png") == "/data/a b.png"
    assert shown_place("s3://key:secret@bucket/in/a.png?endpoint_override=here:1&scheme=http") == "s3://bucket/in/a.png"
    assert shown_place("gs://bucket/in") == "gs://bucket/in"
