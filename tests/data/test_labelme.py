import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s3pot.data.annotation import AnnotationError, FaceAnnotation, LabelRoles
from s3pot.data.labelme import draw_labelme, labelme_content, read_labelme
from s3pot.data.polygons import fill, outlines
from s3pot.images import encode_png, read_image

SIZE = (6, 8)
WHOLE = [[0, 0], [8, 0], [8, 6], [0, 6]]
ANY = LabelRoles(face=())


def shape(label: str, points: Any, shape_type: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": shape_type, "flags": {}, "group_id": None} | more


def write(path: Path, *shapes: Any, **more: Any) -> Path:
    content = {"version": "2.4.0", "imagePath": "a.jpg", "imageHeight": 6, "imageWidth": 8, "imageData": None}
    path.write_text(json.dumps(content | {"shapes": list(shapes)} | more))
    return path


def drawn(path: Path, roles: LabelRoles | None = None, size: tuple[int, int] = SIZE) -> FaceAnnotation:
    return draw_labelme(read_labelme(path), size, roles or LabelRoles())


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_truth_is_occlusion_minus_hole_inside_the_face(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        shape("face", [[1, 0], [7, 0], [7, 4], [1, 4]]),
        shape("occlusion", [[0, 1], [5, 1], [5, 6], [0, 6]]),
        shape("hole", [[2, 2], [3, 2], [3, 3], [2, 3]]),
        shape("occlusion", [[6, 0], [8, 0], [8, 1], [6, 1]], None),
    )
    read = drawn(path)
    expected = picture("......#.", ".####...", ".#.##...", ".####...", "........", "........")
    np.testing.assert_array_equal(read.occlusion, expected)
    assert read.region is not None
    assert read.region.sum() == 24
    assert read.region[:4, 1:7].all(), "a hole in an occlusion is face"


MASK = np.array([[0, 1, 0], [1, 1, 1]], dtype=np.uint8)


@pytest.mark.parametrize(
    "areal",
    [
        shape("occlusion", [[2, 1], [5, 3]], "rectangle"),
        shape("occlusion", [[5, 3], [2, 1]], "rectangle"),  # drawn from the other corner
        shape("occlusion", [[2, 1], [5, 1], [5, 3], [2, 3]], "rectangle"),  # X-AnyLabeling since 2.2
        shape("occlusion", [[2, 1], [5, 1], [5, 3], [2, 3]], "rotation", direction=0.0),
        shape("occlusion", [[2, 1], [5, 1], [5, 3], [2, 3]], "quadrilateral"),
    ],
)
def test_rectangles_of_all_spellings(tmp_path: Path, areal: dict[str, Any]) -> None:
    expected = picture("........", "..###...", "..###...", "........", "........", "........")
    np.testing.assert_array_equal(drawn(write(tmp_path / "a.json", areal), ANY).occlusion, expected)


def test_a_turned_rectangle(tmp_path: Path) -> None:
    turned = shape("occlusion", [[4, -0.2], [7.2, 3], [4, 6.2], [0.8, 3]], "rotation", direction=0.78)
    expected = picture("...##...", "..####..", ".######.", ".######.", "..####..", "...##...")
    np.testing.assert_array_equal(drawn(write(tmp_path / "a.json", turned), ANY).occlusion, expected)


def test_a_circle_is_its_centre_and_a_point_on_it(tmp_path: Path) -> None:
    circle = shape("occlusion", [[4, 3], [4, 4.6]], "circle")
    expected = picture("........", "...##...", "..####..", "..####..", "...##...", "........")
    np.testing.assert_array_equal(drawn(write(tmp_path / "a.json", circle), ANY).occlusion, expected)


def test_a_mask_of_labelme_lies_between_its_first_and_last_pixel(tmp_path: Path) -> None:
    png = base64.b64encode(encode_png(MASK)).decode()
    read = drawn(write(tmp_path / "a.json", shape("occlusion", [[2, 1], [4, 2]], "mask", mask=png)), ANY)
    expected = picture("........", "...#....", "..###...", "........", "........", "........")
    np.testing.assert_array_equal(read.occlusion, expected)


def test_a_hole_of_a_group_spares_the_island_in_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        shape("occlusion", WHOLE, group_id=3),
        shape("hole", [[1, 1], [7, 1], [7, 5], [1, 5]], group_id=3),
        shape("occlusion", [[3, 2], [5, 2], [5, 4], [3, 4]]),
    )
    expected = picture("########", "#......#", "#..##..#", "#..##..#", "#......#", "########")
    np.testing.assert_array_equal(drawn(path, ANY).occlusion, expected)


def test_keys_of_other_tools_are_left_alone(tmp_path: Path) -> None:
    more = {"checked": True, "text": "", "description": None, "cuboids": [], "s3pot": "theirs"}
    areal = shape("occlusion", WHOLE, difficult=False, attributes={"a": 1}, kie_linking=[], score=0.5)
    read = read_labelme(write(tmp_path / "a.json", areal, **more))
    assert (read.id, read.picture, read.picture_data, read.size) == (None, "a.jpg", None, SIZE)
    assert draw_labelme(read, SIZE, ANY).occlusion.all()


def test_labels_are_filtered_by_role(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", shape("hand", WHOLE), shape("tree", [[0, 0]], "point"))
    with pytest.raises(AnnotationError, match=r"shape 0: the label 'hand' is none of occlusion"):
        drawn(path, ANY)
    roles = LabelRoles(occlusion=("hand",), face=(), ignore=("*",))
    assert drawn(path, roles).occlusion.all(), "what is ignored may have any shape"


def test_an_embedded_picture(tmp_path: Path) -> None:
    data = encode_png(np.zeros((6, 8, 3), dtype=np.uint8))
    read = read_labelme(write(tmp_path / "a.json", imageData=base64.b64encode(data).decode(), imagePath=None))
    assert (read.picture, read.picture_data) == (None, data)
    with pytest.raises(AnnotationError, match="imageData is no base64"):
        read_labelme(write(tmp_path / "a.json", imageData="!"))
    with pytest.raises(AnnotationError, match="imageData is no base64"):
        read_labelme(write(tmp_path / "a.json", imageData=[1]))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "no pixel of a face"),
        ([shape("occlusion", WHOLE)], "no pixel of a face"),
        ([shape("face", [[20, 20], [30, 20], [30, 30]])], "no pixel of a face"),
        ([shape("face", WHOLE), shape("ocllusion", WHOLE)], "shape 1: the label 'ocllusion' is none of occlusion"),
        ([shape("face", [[0, 0], [4, 4]], "line")], "shape 0: the face is a line, which has no area"),
        ([shape("face", [[0, 0], [4, 4], [5, 5]], "linestrip")], "is a linestrip, which has no area"),
        ([shape("face", [[0, 0]], "circle")], "is a circle of 1 points"),
        ([shape("face", WHOLE[:3], "rectangle")], "is a rectangle of 3 points"),
        ([shape("face", WHOLE[:2], "rotation")], "is a rotation of 2 points"),
        ([shape("face", WHOLE[:2])], "shape 0: the face needs at least 3 points"),
        ([shape("face", [[0, 0], [1, "a"], [2, 2]])], "at least 3 points"),
        ([shape("face", [[0, 0], [1], [2, 2]])], "at least 3 points"),
        ([shape("face", [[0, 0], [1, float("nan")], [2, 2]])], "finite"),
        ([shape("face", None)], "at least 3 points"),
        ([shape("face", WHOLE, group_id=[1])], "is neither a number nor text"),
        ([shape("face", [[0, 0], [1, 1]], "mask", mask="AAAA")], "its mask is no PNG"),
        ([shape("face", [[0, 0], [1, 1]], "mask")], "its mask is no PNG"),
        ([shape("face", [[0, 0], [5, 5]], "mask", mask=base64.b64encode(encode_png(MASK)).decode())], "does not fit"),
        ([shape("face", [[6, 1], [8, 2]], "mask", mask=base64.b64encode(encode_png(MASK)).decode())], "does not fit"),
        (["face"], "shape 0: expected an object"),
    ],
)
def test_what_cannot_be_used_names_file_and_problem(tmp_path: Path, shapes: list[Any], message: str) -> None:
    path = write(tmp_path / "a.json", *shapes)
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{message}"):
        drawn(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b'{"shapes": [', "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[1, 2]", "no list 'shapes'"),
        (b'{"imageHeight": 6, "imageWidth": 8}', "no list 'shapes'"),
        (b'{"shapes": [], "imageHeight": "6", "imageWidth": 8}', "no whole numbers"),
        (b'{"shapes": [], "imageHeight": 6}', "no whole numbers"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{message}"):
        read_labelme(tmp_path / "a.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"gone\.json: cannot be read: No such file"):
        read_labelme(tmp_path / "gone.json")


def test_the_size_must_be_the_picture_s_where_it_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", shape("face", WHOLE), imageHeight=8, imageWidth=6)
    with pytest.raises(AnnotationError, match="height 8 and width 6, but the picture's are 6 and 8"):
        drawn(path)
    assert drawn(write(tmp_path / "a.json", shape("face", WHOLE), imageHeight=None, imageWidth=None)).region is not None


def test_what_is_written_is_read_back(tmp_path: Path, rng: np.random.Generator) -> None:
    """Rings in rings and specks, exactly; other tools see nothing but the keys they know and one of ours."""
    occlusion = rng.random((20, 30)) > 0.45
    region = np.zeros((20, 30), dtype=bool)
    region[2:18, 3:27] = True
    made = outlines(occlusion, region, tolerance_px=0.0)
    assert any(area.holes for area in made.occlusion), "there is a hole to be written"
    content = labelme_content(
        image_id="deep/a", picture="../a.jpg", size=(20, 30), drawn={"face": made.region, "occlusion": made.occlusion}
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    read = read_labelme(tmp_path / "a.json")
    assert (read.id, read.picture, read.size) == ("deep/a", "../a.jpg", (20, 30))
    again = draw_labelme(read, (20, 30), LabelRoles())
    np.testing.assert_array_equal(again.occlusion, occlusion & region)
    np.testing.assert_array_equal(again.region, region)
    assert {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"} == set(content) - {
        "s3pot"
    }


def test_real_annotations_cover_the_share_that_was_measured_by_others(shared_data: Path) -> None:
    root = shared_data / "real_dev"
    with (root / "index.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 30
    for row in rows:
        size = read_image(root / "images" / f"{row['id']}.jpg").shape[:2]
        read = drawn(root / "annotations" / f"{row['id']}.json", size=size)
        assert read.region is not None
        share = read.occlusion.sum() / read.region.sum()
        assert share == pytest.approx(float(row["occluded_share_of_face"]), abs=0.005), row["id"]


def test_real_truth_survives_polygons(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "real_dev"
    for path in sorted((root / "annotations").glob("*.json")):
        with Image.open(io.BytesIO((root / "images" / f"{path.stem}.jpg").read_bytes())) as opened:
            size = opened.size[::-1]
        truth = drawn(path, size=size)
        made = outlines(truth.occlusion, truth.region)
        content = labelme_content(
            image_id=path.stem, picture="x.jpg", size=size, drawn={"face": made.region, "occlusion": made.occlusion}
        )
        (tmp_path / "a.json").write_text(json.dumps(content))
        again = drawn(tmp_path / "a.json", size=size)
        union = again.occlusion | truth.occlusion
        assert (again.occlusion & truth.occlusion).sum() >= 0.98 * union.sum(), path.name
        assert fill(made.region, size).any()
