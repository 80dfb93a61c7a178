from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s3pot.data.annotation import AnnotationError
from s3pot.data.celebamask import labelled_face, list_parts, merge_parts, read_label_map, reordered
from s3pot.images import ImageError, write_png
from s3pot.parsing.classes import CLASSES, LabelOrder


def part(path: Path, *boxes: tuple[int, int, int, int], size: tuple[int, int] = (8, 8)) -> Path:
    """Write a part as the data set has it: RGB, 0 and 255."""
    mask = np.zeros((*size, 3), dtype=np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 255
    write_png(path, mask)
    return path


def test_parts_are_found_by_number_and_name(tmp_path: Path) -> None:
    part(tmp_path / "0" / "00012_skin.png")
    part(tmp_path / "0" / "00012_l_eye.png")
    part(tmp_path / "7" / "14000_u_lip.png")
    for name in ("0/00012_beard.png", "0/notes.png", "0/00012_background.png"):
        part(tmp_path / name)
    part(tmp_path / "1" / "00012_skin.png")
    found, broken = list_parts(tmp_path)
    assert {number: sorted(parts) for number, parts in found.items()} == {12: ["l_eye", "skin"], 14000: ["u_lip"]}
    assert found[12]["skin"] == tmp_path / "0" / "00012_skin.png"
    assert len(broken) == 4
    with pytest.raises(FileNotFoundError, match="no parts"):
        list_parts(tmp_path / "nothing")


def test_later_classes_lie_over_earlier_ones(tmp_path: Path) -> None:
    """In the order of g_mask.py: skin, nose, eye_g, ... hair (13), hat (14) ... cloth (18)."""
    parts = {
        "hat": part(tmp_path / "hat.png", (0, 0, 2, 8)),
        "skin": part(tmp_path / "skin.png", (0, 0, 8, 8)),
        "hair": part(tmp_path / "hair.png", (0, 0, 4, 8)),
        "cloth": part(tmp_path / "cloth.png", (7, 0, 8, 8)),
    }
    labels = merge_parts(parts)
    assert labels[:, 0].tolist() == [14, 14, 13, 13, 1, 1, 1, 18]


def test_a_part_of_another_size_or_none_at_all(tmp_path: Path) -> None:
    parts = {"skin": part(tmp_path / "a.png"), "nose": part(tmp_path / "b.png", size=(4, 4))}
    with pytest.raises(AnnotationError, match=r"b\.png: of size \(4, 4\)"):
        merge_parts(parts)
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"b\.png"):
        merge_parts(parts)


# The same picture of five classes in each order: skin, left brow, hair, hat, glasses.
HAND_MADE: dict[LabelOrder, list[int]] = {
    "celebamask_hq": [1, 6, 13, 14, 3],
    "face_parsing_pytorch": [1, 2, 17, 18, 6],
    "segface": [2, 6, 14, 16, 15],
}


@pytest.mark.parametrize("order", HAND_MADE)
def test_every_order_by_hand(tmp_path: Path, order: LabelOrder) -> None:
    grey, palette = tmp_path / "grey.png", tmp_path / "palette.png"
    values = np.array([HAND_MADE[order]], dtype=np.uint8)
    write_png(grey, values)
    coloured = Image.fromarray(values)
    coloured.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    coloured.save(palette)
    for path in (grey, palette):
        labels = read_label_map(path, order)
        assert labels.tolist() == [HAND_MADE["celebamask_hq"]]
        parsing = labelled_face(labels, (1, 5), "x").parsing
        assert [CLASSES[number] for number in parsing[0]] == ["skin", "eyebrows", "hair", "background", "eye_glass"]


def test_an_order_is_a_permutation() -> None:
    every = np.arange(19, dtype=np.uint8)[None]
    for order in HAND_MADE:
        assert sorted(reordered(every, order)[0].tolist()) == list(range(19))


def test_a_label_that_no_order_has_and_a_map_of_colours(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.array([[0, 19]], dtype=np.uint8))
    with pytest.raises(AnnotationError, match="from 0 to 18, got 19"):
        read_label_map(tmp_path / "a.png", "segface")
    write_png(tmp_path / "a.png", np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(ImageError, match="grey or palette"):
        read_label_map(tmp_path / "a.png", "segface")


def test_labels_come_out_at_the_size_of_the_picture_with_the_region_filled() -> None:
    labels = np.zeros((8, 8), dtype=np.uint8)
    labels[1:7, 1:7] = 1
    labels[3, 3:5] = 3  # glasses inside the face
    labels[0, 0] = 8  # an ear
    made = labelled_face(labels, (16, 16), "x")
    np.testing.assert_array_equal(made.labels, labels.repeat(2, axis=0).repeat(2, axis=1))
    expected = np.zeros((16, 16), dtype=bool)
    expected[2:14, 2:14] = True
    np.testing.assert_array_equal(made.region, expected)
    assert CLASSES[made.parsing[7, 7]] == "eye_glass"


def test_labels_of_another_picture() -> None:
    labels = np.ones((8, 8), dtype=np.uint8)
    with pytest.raises(AnnotationError, match=r"x: labels of size \(8, 8\) do not fit a picture of 16 x 24"):
        labelled_face(labels, (16, 24), "x")
    assert labelled_face(labels, (15, 15), "x").labels.shape == (15, 15)
    with pytest.raises(AnnotationError, match="no pixel of a face"):
        labelled_face(np.full((8, 8), 13, dtype=np.uint8), (8, 8), "x")


def test_a_real_map_taken_apart_and_merged_again(shared_data: Path, tmp_path: Path) -> None:
    """Parts as the data set holds them, made of a merged map, give that map back."""
    from s3pot.images import read_labels
    from s3pot.parsing.classes import LABEL_ORDERS

    path = sorted((shared_data / "celebamask" / "val" / "labels").glob("*.png"))[0]
    labels = read_labels(path)
    parts = {}
    for number, name in enumerate(LABEL_ORDERS["celebamask_hq"]):
        if number and (labels == number).any():
            parts[name] = tmp_path / f"00000_{name}.png"
            write_png(parts[name], np.repeat((labels == number)[..., None], 3, axis=2).astype(np.uint8) * 255)
    assert len(parts) > 5
    np.testing.assert_array_equal(merge_parts(parts), labels)
