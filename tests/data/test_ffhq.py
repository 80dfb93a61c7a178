from pathlib import Path

import pytest

from s3pot.data.ffhq import list_ffhq
from s3pot.images import ImageError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("00000.png", "69999.png"),
        ("00000/00000.png", "69000/69999.png"),
        ("images1024x1024/00000/00000.png", "images1024x1024/69000/69999.png"),
        ("thumbnails128x128/00000.png", "thumbnails128x128/69999.webp"),
    ],
)
def test_every_layout(tmp_path: Path, names: tuple[str, ...]) -> None:
    found, broken = list_ffhq(touch(tmp_path, *names, "00000/LICENSE.txt"))
    assert found == {"00000": tmp_path / names[0], "69999": tmp_path / names[1]}
    assert broken == []


def test_two_sizes_below_one_folder_are_not_chosen_between(tmp_path: Path) -> None:
    touch(tmp_path, "images1024x1024/00000/00007.png", "thumbnails128x128/00000/00007.png")
    with pytest.raises(ImageError, match="of one number twice"):
        list_ffhq(tmp_path)
    assert set(list_ffhq(tmp_path / "thumbnails128x128")[0]) == {"00007"}


def test_other_names_are_listed(tmp_path: Path) -> None:
    found, broken = list_ffhq(touch(tmp_path, "00001.png", "ffhq-teaser.png", "123456.png"))
    assert list(found) == ["00001"]
    assert [problem.split("/")[-1].split(":")[0] for problem in broken] == ["123456.png", "ffhq-teaser.png"]
    with pytest.raises(ImageError, match="no picture is called like those of FFHQ"):
        list_ffhq(touch(tmp_path / "other", "a.png"))
