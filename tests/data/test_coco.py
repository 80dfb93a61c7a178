import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3pot.data.annotation import AnnotationError, LabelRoles
from s3pot.data.coco import coco_annotation, coco_content, draw_coco, read_coco

SIZE = (6, 8)
ROLES = LabelRoles(occlusion=("hand", "cup"), face=("face",), hole=(), ignore=("tree",))
FACE = {"category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 6, 0, 6]]}


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def coco(tmp_path: Path, *annotations: dict[str, Any], **more: Any) -> Path:
    names = ["hand", "cup", "face", "tree"]
    content = {
        "info": {"year": 2014},
        "licenses": [],
        "images": [
            {"id": 7, "file_name": "sub/a.jpg", "height": 6, "width": 8, "license": 1, "coco_url": "http://x"},
            {"id": 8, "file_name": "b.jpg", "height": 6, "width": 8},
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "x"} for number, name in enumerate(names, start=1)
        ],
        "annotations": [
            {"id": place, "image_id": 7, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": 1} | annotation
            for place, annotation in enumerate(annotations)
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content | more))
    return path


def drawn(path: Path) -> np.ndarray:
    return draw_coco(read_coco(path).images[0], SIZE, ROLES).occlusion


BAR = picture("........", "..###...", "..###...", "........", "........", "........")


@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 1, 5, 1, 5, 3, 2, 3]],
        [[2, 1, 3, 1, 3, 3, 2, 3], [3.0, 1.0, 5.0, 1.0, 5.0, 3.0, 3.0, 3.0]],  # two parts are one thing
        {"size": [6, 8], "counts": [13, 2, 4, 2, 4, 2, 21]},
        {"size": [6, 8], "counts": "=24000a0"},  # the same, made by pycocotools 2.0.11
    ],
)
@pytest.mark.parametrize("crowd", [0, 1])
def test_segmentations_of_all_spellings(tmp_path: Path, segmentation: Any, crowd: int) -> None:
    annotation = {"category_id": 1, "segmentation": segmentation, "iscrowd": crowd}
    np.testing.assert_array_equal(drawn(coco(tmp_path, FACE, annotation)), BAR)


def test_categories_play_roles(tmp_path: Path) -> None:
    path = coco(
        tmp_path,
        FACE,
        {"category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
        {"category_id": 2, "segmentation": [[4, 4, 6, 4, 6, 6, 4, 6]]},
        {"category_id": 4, "segmentation": "anything"},
    )
    expected = picture("##......", "##......", "........", "........", "....##..", "....##..")
    np.testing.assert_array_equal(drawn(path), expected)


def test_pictures_without_annotations_are_counted_not_called_clean(tmp_path: Path) -> None:
    read = read_coco(coco(tmp_path, FACE))
    assert [(image.name, image.size, image.id) for image in read.images] == [("sub/a.jpg", SIZE, None)]
    assert (read.unlabelled, read.broken) == (1, ())


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"category_id": 1, "segmentation": []}, "annotation 1: has no segmentation"),
        ({"category_id": 1}, "has no segmentation"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1]]}, "at least 6 finite numbers"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1, 2, 2, 3]]}, "an even count"),
        ({"category_id": 1, "segmentation": [[0, 0, 1, 1, 2, "a"]]}, "finite numbers"),
        ({"category_id": 1, "segmentation": {"size": [8, 6], "counts": [48]}}, r"annotation 1: .*size \[8, 6\]"),
        ({"category_id": 1, "segmentation": {"size": [6, 8], "counts": [4]}}, "annotation 1: runs of 4 pixels"),
    ],
)
def test_a_broken_annotation_names_its_picture(tmp_path: Path, annotation: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=rf"sub/a\.jpg: {message}|sub/a\.jpg: .*{message}"):
        drawn(coco(tmp_path, FACE, annotation))


def test_an_unknown_category_name_is_no_guess(tmp_path: Path) -> None:
    image = read_coco(coco(tmp_path, FACE)).images[0]
    with pytest.raises(AnnotationError, match="the label 'face' is none of person"):
        draw_coco(image, SIZE, LabelRoles(occlusion=("person",), face=(), hole=()))


def test_the_size_must_be_the_picture_s(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="at height 6 and width 8, but the picture's are 12 and 16"):
        draw_coco(read_coco(coco(tmp_path, FACE)).images[0], (12, 16), ROLES)


def test_what_belongs_to_nothing_is_listed_and_loses_nothing_else(tmp_path: Path) -> None:
    images = [
        {"id": 7, "file_name": "a.jpg", "height": 6, "width": 8},
        {"id": 7, "file_name": "c.jpg", "height": 6, "width": 8},
        {"id": [1], "file_name": "d.jpg", "height": 6, "width": 8},
        {"id": 9, "file_name": "e.jpg", "height": "6", "width": 8},
    ]
    strange = [{"image_id": 70, "category_id": 1}, {"category_id": 77}, {"image_id": {}, "category_id": []}]
    read = read_coco(coco(tmp_path, FACE, *strange, images=images))
    assert [image.name for image in read.images] == ["a.jpg"]
    assert len(read.broken) == 6
    assert "annotation 1: image_id 70, category_id 1: no such picture" in " ".join(read.broken)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"images": []}', b'{"images": {}, "annotations": [], "categories": []}']
)
def test_what_is_no_coco_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "coco.json").write_bytes(content)
    with pytest.raises(AnnotationError, match=r"coco\.json: is no"):
        read_coco(tmp_path / "coco.json")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_coco(tmp_path / "gone.json")


def test_what_is_written_is_read_back(tmp_path: Path, rng: np.random.Generator) -> None:
    truth, nothing = rng.random((20, 30)) > 0.5, np.zeros((5, 4), dtype=bool)
    region = np.ones((20, 30), dtype=bool)
    content = coco_content(
        [
            ("deep/a", "deep/a.jpg", (20, 30), [coco_annotation("occlusion", truth), coco_annotation("face", region)]),
            ("b", "b.png", (5, 4), [coco_annotation("occlusion", nothing)]),
        ]
    )
    (tmp_path / "coco.json").write_text(json.dumps(content))
    read = read_coco(tmp_path / "coco.json")
    assert [(image.id, image.name, image.size) for image in read.images] == [
        ("deep/a", "deep/a.jpg", (20, 30)),
        ("b", "b.png", (5, 4)),
    ]
    again = draw_coco(read.images[0], (20, 30), LabelRoles())
    np.testing.assert_array_equal(again.occlusion, truth)
    assert again.region is not None
    assert again.region.all()
    assert not draw_coco(read.images[1], (5, 4), LabelRoles(face=())).occlusion.any()
    rows, cols = np.nonzero(truth)
    box = [cols.min(), rows.min(), cols.max() - cols.min() + 1, rows.max() - rows.min() + 1]
    assert content["annotations"][0]["bbox"] == box
    assert content["annotations"][0]["area"] == truth.sum()
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2, 3]
