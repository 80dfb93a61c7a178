from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from s3pot.data.folds import fold_of_face
from s3pot.images import ImageError, encode_jpeg
from s3pot.parsing.classes import CLASSES, celebamask_to_12, face_mask
from s3pot.parsing.network import FaceParser, parse_faces
from s3pot.pretrain.faces import join_faces, list_faces, load_faces, load_unlabelled_faces, pictures

SKIN, EYE_GLASS, HAIR, HAT = 1, 3, 13, 14  # CelebAMask-HQ ids


def write_face(root: Path, stem: str, labels: np.ndarray | None = None, picture: np.ndarray | None = None) -> None:
    """Write a face as CelebAMask-HQ keeps it: JPEG, and labels as a palette PNG."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if labels is None:
        labels = np.full((64, 64), SKIN, dtype=np.uint8)
    if picture is None:
        picture = np.full((*labels.shape, 3), 128, dtype=np.uint8)
    (root / "images" / f"{stem}.jpg").write_bytes(encode_jpeg(picture, 95))
    coloured = Image.fromarray(labels).convert("P")
    coloured.putdata(labels.ravel().tolist())
    coloured.putpalette([value for label in range(256) for value in ((label * 40) % 256, 10, 200)])
    coloured.save(root / "labels" / f"{stem}.png")


def worn(label: int, pixels: int) -> np.ndarray:
    labels = np.full((64, 64), SKIN, dtype=np.uint8)
    labels.ravel()[:pixels] = label
    return labels


def test_usable_faces_are_listed_in_order(tmp_path: Path) -> None:
    for stem in ("c", "a", "b"):
        write_face(tmp_path, stem)
    assert list_faces(tmp_path, None) == ["a", "b", "c"]
    assert list_faces(tmp_path, None, exclude={"b"}) == ["a", "c"]


def test_faces_that_wear_glasses_or_a_hat_are_no_bases(tmp_path: Path) -> None:
    # The limit is 0.1 % of the picture: 4 of 4,096 pixels may be a slip of the brush, 5 are glasses.
    write_face(tmp_path, "bare")
    write_face(tmp_path, "slip", worn(EYE_GLASS, 4))
    write_face(tmp_path, "glasses", worn(EYE_GLASS, 5))
    write_face(tmp_path, "hat", worn(HAT, 5))
    write_face(tmp_path, "hair", worn(HAIR, 2000))
    assert list_faces(tmp_path, None) == ["bare", "hair", "slip"]


def test_a_fold_holds_its_faces_only(tmp_path: Path) -> None:
    stems = [f"{number:05d}" for number in range(40)]
    for stem in stems:
        write_face(tmp_path, stem)
    listed = {fold: list_faces(tmp_path, fold) for fold in ("dev", "head", "prefix")}
    for fold, found in listed.items():
        assert found == [stem for stem in stems if fold_of_face(stem) == fold]
    assert sum(map(len, listed.values())) == 40


def test_no_usable_face_is_an_error_that_names_the_fold(tmp_path: Path) -> None:
    write_face(tmp_path, "hat", worn(HAT, 100))
    with pytest.raises(FileNotFoundError, match="fold None"):
        list_faces(tmp_path, None)
    with pytest.raises(FileNotFoundError, match="fold dev"):
        list_faces(tmp_path / "nowhere", "dev")


def test_a_face_without_labels_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_face(tmp_path, "a")
    (tmp_path / "labels" / "a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png"):
        list_faces(tmp_path, None)


def test_pictures_are_shrunk_by_area_and_labels_by_nearest(tmp_path: Path) -> None:
    labels = np.full((64, 64), SKIN, dtype=np.uint8)
    labels[:32] = HAIR
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, 1::2] = 200
    write_face(tmp_path, "a", labels, stripes)
    bank = load_faces(tmp_path, ["a"], 32)
    assert bank.images.shape == (1, 32, 32, 3)
    assert np.abs(bank.images.astype(int) - 100).max() <= 6, "every pixel is the mean of a dark and a bright column"
    assert bank.parsings[0, :16].tolist() == [[CLASSES.index("hair")] * 32] * 16
    assert bank.parsings[0, 16:].tolist() == [[CLASSES.index("skin")] * 32] * 16


def test_palette_labels_are_read_as_ids(tmp_path: Path) -> None:
    labels = np.arange(19, dtype=np.uint8).repeat(19).reshape(19, 19)
    write_face(tmp_path, "a", labels)
    assert np.array_equal(load_faces(tmp_path, ["a"], 19).parsings[0], celebamask_to_12(labels))


def test_picture_and_labels_stay_aligned(tmp_path: Path) -> None:
    labels = np.zeros((128, 128), dtype=np.uint8)
    cv2.circle(labels, (70, 50), 30, SKIN, -1)
    picture = np.where(labels[..., None] == SKIN, 220, 20).astype(np.uint8).repeat(3, axis=2)
    write_face(tmp_path, "a", labels, picture)
    bank = load_faces(tmp_path, ["a"], 64)
    assert (face_mask(bank.parsings[0]) == (bank.images[0, ..., 0] > 120)).mean() > 0.99


def test_a_bank_keeps_the_order_it_was_asked_for(tmp_path: Path) -> None:
    for value, stem in enumerate("abc"):
        write_face(tmp_path, stem, picture=np.full((64, 64, 3), 60 * value, dtype=np.uint8))
    bank = load_faces(tmp_path, ["c", "a"], 32)
    assert bank.ids == ("c", "a")
    assert len(bank) == 2
    assert bank.images[0].mean() > 100 > 20 > bank.images[1].mean()


def test_a_real_face_has_its_eyes_above_its_mouth(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    bank = load_faces(root, list_faces(root, "dev")[:2], 128)
    for parsing in bank.parsings:
        eyes, lips = (np.nonzero(parsing == CLASSES.index(name))[0].mean() for name in ("eyes", "lip"))
        assert eyes < lips - 10


def test_unlabelled_faces_carry_what_the_parser_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for stem in ("2", "1", "3"):
        picture = rng.integers(0, 255, (80, 80, 3), dtype=np.uint8)
        (tmp_path / f"{stem}.jpg").write_bytes(encode_jpeg(cv2.GaussianBlur(picture, (0, 0), 4), 95))
    torch.manual_seed(0)
    parser = FaceParser().eval()
    bank = load_unlabelled_faces(tmp_path, parser, exclude={"3"})
    assert bank.ids == ("1", "2")
    assert bank.images.shape == (2, 256, 256, 3)
    alone = parse_faces(parser, pictures(list(bank.images[1:])))[0].numpy()
    assert (bank.parsings[1] == alone).mean() > 0.999, "batches may differ in the last bit"
    with pytest.raises(FileNotFoundError, match=r"no usable faces in .*\.jpg"):
        load_unlabelled_faces(tmp_path, parser, exclude={"1", "2", "3"})


def test_banks_are_joined_in_order(tmp_path: Path) -> None:
    for stem in ("a", "b", "c"):
        write_face(tmp_path, stem, worn(HAIR, 100 * (1 + ord(stem) - ord("a"))))
    whole = load_faces(tmp_path, ["a", "b", "c"], 64)
    joined = join_faces(load_faces(tmp_path, ["a"], 64), load_faces(tmp_path, ["b", "c"], 64))
    assert joined.ids == whole.ids
    np.testing.assert_array_equal(joined.images, whole.images)
    np.testing.assert_array_equal(joined.parsings, whole.parsings)


def test_pictures_become_channels_first_in_zero_to_one() -> None:
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    picture[1, 2] = (255, 51, 0)
    stacked = pictures([picture, picture])
    assert stacked.shape == (2, 3, 2, 3)
    assert stacked[0, :, 1, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
