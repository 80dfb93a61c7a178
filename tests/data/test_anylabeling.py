import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3pot.data.anylabeling import AnnotationError, rasterise, read_annotation
from s3pot.images import read_image

SIZE = (6, 8)
WHOLE = [[0, 0], [8, 0], [8, 6], [0, 6]]


def shape(label: str, points: Any, shape_type: str | None = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": shape_type, "flags": {}, "group_id": None}


def write(path: Path, *shapes: dict[str, Any], height: int = 6, width: int = 8) -> Path:
    content = {"version": "2.4.0", "imagePath": "a.jpg", "imageHeight": height, "imageWidth": width}
    path.write_text(json.dumps(content | {"shapes": list(shapes), "imageData": None}))
    return path


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_a_polygon_along_pixel_edges_gives_exactly_those_pixels() -> None:
    corner = np.array([[1, 1], [6, 1], [6, 3], [3, 3], [3, 5], [1, 5]], dtype=float)
    expected = picture("........", ".#####..", ".#####..", ".##.....", ".##.....", "........")
    np.testing.assert_array_equal(rasterise(corner, SIZE), expected)
    np.testing.assert_array_equal(rasterise(corner[::-1], SIZE), expected)
    np.testing.assert_array_equal(rasterise(np.roll(corner, 2, axis=0), SIZE), expected)


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    # A right triangle: the centres (c + 0.5, r + 0.5) with x + y < 4.9, that is c + r <= 3.
    triangle = np.array([[0, 0], [4.9, 0], [0, 4.9]])
    expected = picture("####....", "###.....", "##......", "#.......", "........", "........")
    np.testing.assert_array_equal(rasterise(triangle, SIZE), expected)


def test_any_polygon_agrees_with_a_test_of_every_centre(rng: np.random.Generator) -> None:
    def crossed(x: float, y: float, polygon: np.ndarray) -> bool:
        inside = False
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
            if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
                inside = not inside
        return inside

    for _ in range(30):
        polygon = rng.uniform(-4, 14, size=(int(rng.integers(3, 9)), 2))
        expected = [[crossed(col + 0.5, row + 0.5, polygon) for col in range(8)] for row in range(6)]
        np.testing.assert_array_equal(rasterise(polygon, SIZE), expected)


def test_polygons_with_a_common_edge_share_the_pixels_out(rng: np.random.Generator) -> None:
    for _ in range(20):
        # Ends of the common edge on centres of pixels and anywhere: ties must go to one side.
        upper, lower = rng.integers(0, 8) + 0.5, rng.uniform(0, 8)
        left = rasterise(np.array([[0, 0], [upper, 0], [lower, 6], [0, 6]]), SIZE)
        right = rasterise(np.array([[upper, 0], [8, 0], [8, 6], [lower, 6]]), SIZE)
        assert (left ^ right).all()


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    beyond = np.array([[-5, -3], [3, -3], [3, 20], [-5, 20]], dtype=float)
    np.testing.assert_array_equal(rasterise(beyond, SIZE), np.arange(8)[None, :].repeat(6, axis=0) < 3)
    assert not rasterise(beyond + 30, SIZE).any()


def test_truth_is_occlusion_minus_hole_inside_the_face(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        shape("face", [[1, 0], [7, 0], [7, 4], [1, 4]]),
        shape("occlusion", [[0, 1], [5, 1], [5, 6], [0, 6]]),
        shape("hole", [[2, 2], [3, 2], [3, 3], [2, 3]]),
        shape("occlusion", [[6, 0], [8, 0], [8, 1], [6, 1]]),
    )
    read = read_annotation(path, SIZE)
    expected = picture("......#.", ".####...", ".#.##...", ".####...", "........", "........")
    np.testing.assert_array_equal(read.occlusion, expected)
    assert read.region.sum() == 24
    assert read.region[:4, 1:7].all(), "a hole in an occlusion is face"


def test_a_face_without_occlusion_has_an_empty_truth(tmp_path: Path) -> None:
    read = read_annotation(write(tmp_path / "a.json", shape("face", WHOLE, None)), SIZE)
    assert not read.occlusion.any()
    assert read.region.all()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "no pixel of a face"),
        ([shape("occlusion", WHOLE)], "no pixel of a face"),
        ([shape("face", [[20, 20], [30, 20], [30, 30]])], "no pixel of a face"),
        ([shape("face", WHOLE), shape("ocllusion", WHOLE)], "shape 1: the label 'ocllusion' is none of occlusion"),
        ([shape("face", WHOLE), shape("occlusion", [[0, 0], [4, 4]], "rectangle")], "shape 1: .* is a rectangle"),
        ([shape("face", WHOLE[:2])], "shape 0: the face needs at least 3 points"),
        ([shape("face", [[0, 0], [1, "a"], [2, 2]])], "at least 3 points"),
        ([shape("face", [[0, 0], [1], [2, 2]])], "at least 3 points"),
        ([shape("face", [[0, 0], [1, float("nan")], [2, 2]])], "finite"),
        ([shape("face", None)], "at least 3 points"),
        (["face"], "shape 0: expected an object"),
    ],
)
def test_what_cannot_be_used_names_file_and_problem(tmp_path: Path, shapes: list[Any], message: str) -> None:
    path = write(tmp_path / "a.json", *shapes)
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{message}"):
        read_annotation(path, SIZE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b'{"shapes": [', "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[1, 2]", "no list 'shapes'"),
        (b'{"imageHeight": 6, "imageWidth": 8}', "no list 'shapes'"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{message}"):
        read_annotation(tmp_path / "a.json", SIZE)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"gone\.json: cannot be read: No such file"):
        read_annotation(tmp_path / "gone.json", SIZE)


def test_the_size_must_be_the_picture_s(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", shape("face", WHOLE), height=8, width=6)
    with pytest.raises(AnnotationError, match="height 8 and width 6, but the picture's are 6 and 8"):
        read_annotation(path, SIZE)


def test_real_annotations_cover_the_share_that_was_measured_by_others(shared_data: Path) -> None:
    root = shared_data / "real_dev"
    with (root / "index.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 30
    for row in rows:
        size = read_image(root / "images" / f"{row['id']}.jpg").shape[:2]
        read = read_annotation(root / "annotations" / f"{row['id']}.json", size)
        share = read.occlusion.sum() / read.region.sum()
        assert share == pytest.approx(float(row["occluded_share_of_face"]), abs=0.005), row["id"]
