from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from s3pot.data.near_duplicates import near_pairs, perceptual_hash
from s3pot.images import ImageError


def scene(seed: int, size: int = 300) -> Image.Image:
    rng = np.random.default_rng(seed)
    values = sum(ndimage.gaussian_filter(rng.standard_normal((size, size, 3)), (s, s, 0)) * s for s in (4, 12, 40))
    return Image.fromarray(np.clip(128 + 70 * values, 0, 255).astype(np.uint8))


def hashed(path: Path, picture: Image.Image, **options: object) -> np.ndarray:
    picture.save(path, **options)
    return perceptual_hash(path)


def test_the_hash_is_the_signs_of_low_frequencies(tmp_path: Path) -> None:
    """Against a cosine transform written out, on the picture shrunk in the same way."""
    picture = scene(1)
    made = hashed(tmp_path / "a.png", picture)
    grey = np.asarray(picture.convert("L").resize((64, 64), Image.Resampling.LANCZOS), dtype=float)
    cosines = np.cos(np.pi * np.arange(16)[:, None] * (2 * np.arange(64)[None] + 1) / 128)
    low = cosines @ grey @ cosines.T
    np.testing.assert_array_equal(made, (low > np.median(low)).ravel())


def test_copies_stay_close_and_other_pictures_do_not(tmp_path: Path) -> None:
    picture = scene(1)
    first = hashed(tmp_path / "a.png", picture)
    copies = {
        "small.png": picture.resize((64, 64)),
        "large.png": picture.resize((900, 900)),
        "grey.png": picture.convert("L"),
        "brighter.png": ImageEnhance.Brightness(picture).enhance(1.1),
    }
    for name, copy in copies.items():
        assert (hashed(tmp_path / name, copy) != first).sum() <= 32, name
    assert (hashed(tmp_path / "a.jpg", picture, quality=20) != first).sum() <= 32
    for other in range(2, 8):
        assert (hashed(tmp_path / "b.png", scene(other)) != first).sum() > 58


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read"):
        perceptual_hash(tmp_path / "a.jpg")


@pytest.mark.parametrize("most", [0, 32, 100, 127, 255])
def test_all_pairs_and_only_those(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("s3pot.data.near_duplicates._BLOCK", 7)  # several blocks, the last one shorter
    hashes = rng.random((40, 256)) > 0.5
    hashes[20] = hashes[3]
    hashes[33] = hashes[3] ^ (np.arange(256) < 32)
    pairs, distances = near_pairs(hashes, most)
    expected = {
        (one, other): int((hashes[one] != hashes[other]).sum())
        for one in range(40)
        for other in range(one + 1, 40)
        if (hashes[one] != hashes[other]).sum() <= most
    }
    assert expected, "there is something to find"
    assert {(int(one), int(other)): int(far) for (one, other), far in zip(pairs, distances, strict=True)} == expected
    assert len(pairs) == len(expected)


def test_nothing_to_compare() -> None:
    for count in (0, 1):
        pairs, distances = near_pairs(np.zeros((count, 256), dtype=bool))
        assert pairs.shape == (0, 2)
        assert distances.shape == (0,)
    with pytest.raises(ValueError, match=r"0\.\.255, got 256"):
        near_pairs(np.zeros((2, 256), dtype=bool), 256)


def test_the_real_copies_among_the_shared_data_are_found(shared_data: Path) -> None:
    """Real occlusions that are also in the training faces and among the portraits, by file name, and nothing else."""
    real = sorted((shared_data / "real_dev" / "images").glob("*.jpg"))
    names = {path.stem for path in real}
    folders = [shared_data / "celebamask" / fold / "images" for fold in ("train", "val")] + [shared_data / "portraits"]
    others = [path for folder in folders for path in sorted(folder.glob("*.jpg"))]
    others = [path for place, path in enumerate(others) if path.stem in names or place % 10 == 0]
    paths = [*real, *others]
    pairs, _ = near_pairs(np.array([perceptual_hash(path) for path in paths]))
    found = sorted((paths[one].stem, paths[other].stem) for one, other in pairs if one < len(real) <= other)
    assert found == sorted((path.stem, path.stem) for path in others if path.stem in names)
    assert len(found) == 14
