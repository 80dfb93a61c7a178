from pathlib import Path

import pytest

from s3pot.data.safe_names import OutsideError, find_picture, leads_out, place_below


@pytest.mark.parametrize("name", ["a", "a/b.c", "0042", "a b", "ä/ö", "...", "a#2", "-"])
def test_plain_names(name: str) -> None:
    assert not leads_out(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/etc/passwd", "../a", "a/../../b", "a/..", "./a", "a//b", "a/", "a\0b"]
)
def test_names_that_lead_out_or_have_another_spelling(name: str) -> None:
    assert leads_out(name)
    with pytest.raises(OutsideError):
        place_below(Path("/data"), name)


def test_a_place_below(tmp_path: Path) -> None:
    assert place_below(tmp_path, "a/b.c", ".png") == tmp_path / "a" / "b.c.png"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Annotations in json/, pictures in images/, and a picture outside of both."""
    for place in ("images/a.jpg", "images/deep/b.jpg", "json/c.jpg", "secret.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("c.jpg", "json/c.jpg"),  # beside the annotation
        ("a.jpg", "images/a.jpg"),
        ("deep/b.jpg", "images/deep/b.jpg"),
        ("../images/a.jpg", "images/a.jpg"),  # as LabelMe writes it
        ("/home/somebody/else/a.jpg", "images/a.jpg"),  # a path of another machine
        ("C:\\pictures\\a.jpg", "images/a.jpg"),
        ("../elsewhere/a.jpg", "images/a.jpg"),
    ],
)
def test_pictures_that_annotations_may_name(world: Path, name: str, found: str) -> None:
    assert find_picture(name, world / "json", world / "images") == world / found


def test_an_absolute_path_below_the_root(world: Path) -> None:
    name = str(world / "images" / "deep" / "b.jpg")
    assert find_picture(name, world / "json", world / "images") == Path(name)


@pytest.mark.parametrize("name", ["../secret.jpg", "deep/../../secret.jpg", "{world}/secret.jpg"])
def test_a_picture_outside_needs_permission(world: Path, name: str) -> None:
    name = name.format(world=world)
    with pytest.raises(OutsideError, match="outside=true"):
        find_picture(name, world / "json", world / "images")
    assert find_picture(name, world / "json", world / "images", outside=True) == world / "secret.jpg"


@pytest.mark.parametrize("name", ["gone.jpg", "", ".", "../..", "/nowhere/gone.jpg", "x" * 5000, "a\0b"])
def test_what_is_not_there_is_none(world: Path, name: str) -> None:
    assert find_picture(name, world / "json", world / "images") is None


def test_a_linked_picture_is_a_picture(world: Path) -> None:
    (world / "images" / "link.jpg").symlink_to(world / "secret.jpg")
    assert find_picture("link.jpg", world / "json", world / "images") == world / "images" / "link.jpg"


def test_a_folder_whose_name_starts_alike_is_outside(world: Path) -> None:
    (world / "images2").mkdir()
    (world / "images2" / "x.jpg").touch()
    with pytest.raises(OutsideError):
        find_picture("../images2/x.jpg", world / "json", world / "images")
