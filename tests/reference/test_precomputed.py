from pathlib import Path

import numpy as np
import pytest

from s3pot.images import ImageError, write_png
from s3pot.reference.precomputed import PrecomputedReferences


def picture(seed: int = 0, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def references(tmp_path: Path) -> PrecomputedReferences:
    for seed, name in enumerate(("anna.png", "album/bert.png", "v1.5.png", "carl.jpg.png", "dora.png")):
        write_png(tmp_path / name, picture(seed))
    return PrecomputedReferences(tmp_path)


@pytest.mark.parametrize(
    ("image_id", "seed"),
    [("anna", 0), ("anna.jpg", 0), ("anna.png", 0), ("album/bert.jpeg", 1), ("v1.5", 2), ("carl.jpg", 3)],
)
def test_is_found_by_the_name_of_the_image(references: PrecomputedReferences, image_id: str, seed: int) -> None:
    np.testing.assert_array_equal(references.read(image_id, (40, 50)), picture(seed))


def test_another_resolution_is_resized(references: PrecomputedReferences, tmp_path: Path) -> None:
    write_png(tmp_path / "grey.png", np.full((40, 50, 3), 99, np.uint8))
    for size in ((20, 25), (80, 100), (27, 34)):
        found = references.read("grey", size)
        assert found.shape == (*size, 3)
        assert (found == 99).all()


def test_another_shape_is_refused(references: PrecomputedReferences) -> None:
    with pytest.raises(ImageError, match=r"anna\.png: .* 50 x 40 .* got 40 x 50"):
        references.read("anna", (50, 40))


@pytest.mark.parametrize("image_id", ["emil", "album/anna", "album"])
def test_a_missing_one_is_named_with_the_folder(references: PrecomputedReferences, image_id: str) -> None:
    with pytest.raises(ImageError, match=f"{image_id}: no reference in {references.folder}"):
        references.read(image_id, (40, 50))


@pytest.mark.parametrize("image_id", ["../secret", "/etc/passwd", "a/../../secret", ""])
def test_an_id_cannot_leave_the_folder(references: PrecomputedReferences, image_id: str) -> None:
    write_png(references.folder.parent / "secret.png", picture())
    with pytest.raises(ImageError, match="leads out of the folder"):
        references.read(image_id, (40, 50))


def test_a_broken_one_is_named(references: PrecomputedReferences) -> None:
    (references.folder / "emil.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(ImageError, match=r"emil\.jpg"):
        references.read("emil", (40, 50))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone: no such folder of precomputed references"):
        PrecomputedReferences(tmp_path / "gone")


def test_the_listing_tells_folders_apart(references: PrecomputedReferences, tmp_path: Path) -> None:
    before = references.listing()
    assert PrecomputedReferences(references.folder).listing() == before
    write_png(references.folder / "emil.png", picture(7))
    added = references.listing()
    (references.folder / "emil.png").rename(references.folder / "fred.png")
    assert len({before, added, references.listing()}) == 3
