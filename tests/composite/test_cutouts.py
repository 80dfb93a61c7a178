from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s3pot.composite.cutouts import MAX_SIDE, list_cutouts, load_cutout
from s3pot.data.folds import fold_of_cutouts


def write_cutout(path: Path, rgba: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgba).save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}))
    return path


def rectangle(height: int, width: int, rows: slice, cols: slice, alpha: int = 255) -> np.ndarray:
    """A grey rectangle in an otherwise invisible green picture."""
    rgba = np.zeros((height, width, 4), dtype=np.uint8)
    rgba[..., 1] = 200
    rgba[rows, cols] = (100, 100, 100, alpha)
    return rgba


def test_a_cutout_is_cropped_to_what_is_visible(tmp_path: Path) -> None:
    path = write_cutout(tmp_path / "cup.png", rectangle(40, 60, slice(10, 25), slice(20, 50)))
    cutout = load_cutout("objects", path)
    assert (cutout.id, cutout.kind) == ("objects/cup", "objects")
    assert cutout.rgba.shape == (15, 30, 4)
    assert cutout.rgba.dtype == np.uint8
    assert (cutout.rgba == (100, 100, 100, 255)).all()


def test_a_faint_haze_does_not_count_as_visible(tmp_path: Path) -> None:
    rgba = rectangle(40, 60, slice(10, 25), slice(20, 50))
    rgba[0, 0, 3] = 8
    assert load_cutout("objects", write_cutout(tmp_path / "cup.png", rgba)).rgba.shape == (15, 30, 4)
    rgba[0, 0, 3] = 9
    assert load_cutout("objects", write_cutout(tmp_path / "cup.png", rgba)).rgba.shape == (25, 50, 4)


def test_a_large_cutout_is_shrunk_without_a_fringe(tmp_path: Path) -> None:
    rgba = np.zeros((900, 1300, 4), dtype=np.uint8)
    rgba[..., 1] = 255  # invisible green must not leak into the edge of a grey disc
    rows, cols = np.ogrid[:900, :1300]
    disc = (rows - 450) ** 2 + (cols - 650) ** 2 < 440**2
    rgba[disc] = (100, 100, 100, 255)
    cutout = load_cutout("objects", write_cutout(tmp_path / "big.png", rgba))
    assert max(cutout.rgba.shape[:2]) == MAX_SIDE
    visible = cutout.rgba[cutout.rgba[..., 3] > 32][:, :3].astype(int)
    assert np.abs(visible - 100).max() <= 20  # the filter overshoots a little at the edge
    assert np.abs(visible[:, 1] - visible[:, 0]).max() <= 4


def test_fine_detail_of_a_large_cutout_is_averaged(tmp_path: Path) -> None:
    rgba = np.full((800, 800, 4), 255, dtype=np.uint8)
    rgba[..., :3] = 255 * ((np.arange(800)[:, None] + np.arange(800)) % 2)[..., None]
    cutout = load_cutout("objects", write_cutout(tmp_path / "checks.png", rgba))
    assert cutout.rgba.shape == (400, 400, 4)
    assert np.abs(cutout.rgba[5:-5, 5:-5, :3].astype(int) - 128).max() < 10


def test_a_small_cutout_is_not_enlarged(tmp_path: Path) -> None:
    cutout = load_cutout("objects", write_cutout(tmp_path / "s.png", rectangle(9, 9, slice(2, 7), slice(1, 8))))
    assert cutout.rgba.shape == (5, 7, 4)


def test_a_palette_png_with_transparency_is_read(tmp_path: Path) -> None:
    picture = Image.fromarray(rectangle(20, 20, slice(5, 15), slice(4, 16))).convert("P")
    picture.info["transparency"] = picture.getpixel((0, 0))
    picture.save(tmp_path / "p.png", transparency=picture.getpixel((0, 0)))
    assert load_cutout("objects", tmp_path / "p.png").rgba.shape == (10, 12, 4)


def test_an_invisible_cutout_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write_cutout(tmp_path / "ghost.png", rectangle(20, 20, slice(0, 20), slice(0, 20), alpha=0))
    with pytest.raises(ValueError, match=r"ghost\.png"):
        load_cutout("objects", path)


def test_cutouts_are_listed_by_kind_in_a_stable_order(tmp_path: Path) -> None:
    rgba = rectangle(8, 8, slice(1, 7), slice(1, 7))
    for name in ("objects/b.png", "objects/a.webp", "masks/n95.png"):
        write_cutout(tmp_path / name, rgba)
    (tmp_path / "objects" / "readme.txt").write_text("no cut-out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "top.png").write_bytes(b"not below a kind")
    listed = list_cutouts(tmp_path)
    assert listed == [
        ("masks", tmp_path / "masks" / "n95.png"),
        ("objects", tmp_path / "objects" / "a.webp"),
        ("objects", tmp_path / "objects" / "b.png"),
    ]
    assert load_cutout(*listed[1]).id == "objects/a"


def test_the_folds_part_the_cutouts(tmp_path: Path) -> None:
    for number in range(12):
        write_cutout(tmp_path / "objects" / f"o{number}.png", rectangle(4, 4, slice(0, 4), slice(0, 4)))
    listed = {fold: list_cutouts(tmp_path, fold) for fold in ("dev", "head", "prefix")}
    assert sorted(cutout for part in listed.values() for cutout in part) == list_cutouts(tmp_path)
    expected = fold_of_cutouts("objects", [f"o{number}" for number in range(12)])
    for fold, cutouts in listed.items():
        assert cutouts
        assert {expected[path.stem] for _, path in cutouts} == {fold}


def test_a_folder_without_cutouts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    with pytest.raises(FileNotFoundError, match="no cut-outs"):
        list_cutouts(tmp_path)
    write_cutout(tmp_path / "objects" / "only.png", rectangle(4, 4, slice(0, 4), slice(0, 4)))
    with pytest.raises(FileNotFoundError, match="of fold prefix"):
        list_cutouts(tmp_path, "prefix")


def test_real_cutouts_of_every_kind_load(shared_data: Path) -> None:
    root = shared_data / "occluders" / "train"
    first = {kind: path for kind, path in reversed(list_cutouts(root))}
    assert set(first) >= {"hands", "sunglasses", "masks", "objects", "emoji"}
    for kind, path in first.items():
        rgba = load_cutout(kind, path).rgba
        assert max(rgba.shape[:2]) <= MAX_SIDE
        assert 0.05 < (rgba[..., 3] > 127).mean() <= 1.0
