from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s3pot.config import ConfigError
from s3pot.crop_rule import face_from_landmarks
from s3pot.landmark_file import FIVE_POINTS, LandmarkError, LandmarkFile

SIZE = (300, 400)
POINTS = np.array([[100.0, 100.0], [160.0, 100.0], [110.0, 170.0], [150.0, 170.0]])


def row(image_id: str = "a.jpg", points: np.ndarray = POINTS, **more: object) -> dict[str, object]:
    return {"id": image_id, **dict(zip(FIVE_POINTS, points.ravel(), strict=True)), **more}


def written(folder: Path, *rows: dict[str, object], name: str = "landmarks.csv") -> Path:
    frame, path = pd.DataFrame(rows), folder / name
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return path


def sixty_eight(points: np.ndarray) -> dict[str, float]:
    """68 points of which all but eyes and mouth corners lie far off; each eye is a ring around its centre."""
    ring = np.array([[-9, 0], [-4, -3], [4, -3], [9, 0], [4, 3], [-4, 3]])
    marks = np.full((68, 2), 5000.0)
    marks[36:42], marks[42:48], marks[48], marks[54] = points[0] + ring, points[1] + ring, points[2], points[3]
    return {f"{axis}_{number}": marks[number, place] for number in range(68) for place, axis in enumerate("xy")}


class TestForms:
    @pytest.mark.parametrize("name", ["landmarks.csv", "landmarks.parquet"])
    def test_eyes_and_mouth_corners(self, tmp_path: Path, name: str) -> None:
        file = LandmarkFile(written(tmp_path, row(), row("b.jpg", POINTS + 20), name=name))
        assert file.faces("a.jpg", SIZE) == [face_from_landmarks(*POINTS)]
        assert file.faces("b.jpg", SIZE) == [face_from_landmarks(*(POINTS + 20))]
        assert file.ids == ["a.jpg", "b.jpg"]

    def test_sixty_eight_points(self, tmp_path: Path) -> None:
        [face] = LandmarkFile(written(tmp_path, {"id": "a.jpg"} | sixty_eight(POINTS))).faces("a.jpg", SIZE)
        expected = face_from_landmarks(*POINTS)
        assert [face.x, face.y, face.side, face.roll] == pytest.approx(
            [expected.x, expected.y, expected.side, expected.roll]
        )

    def test_the_columns_may_come_in_any_order_and_with_a_nose(self, tmp_path: Path) -> None:
        shuffled = dict(reversed(row(nose_x=130, nose_y=None).items()))
        assert LandmarkFile(written(tmp_path, shuffled)).faces("a.jpg", SIZE) == [face_from_landmarks(*POINTS)]

    def test_ids_are_text(self, tmp_path: Path) -> None:
        file = LandmarkFile(written(tmp_path, row("007"), row("NA"), row("album/a b.jpg")))
        assert file.ids == ["007", "NA", "album/a b.jpg"]
        assert LandmarkFile(written(tmp_path, {**row(), "id": 7}, name="l.parquet")).ids == ["7"]

    def test_an_image_without_a_row_has_no_face(self, tmp_path: Path) -> None:
        assert LandmarkFile(written(tmp_path, row())).faces("b.jpg", SIZE) == []

    def test_several_faces_come_by_their_number(self, tmp_path: Path) -> None:
        rows = [row(points=POINTS + 30, face=2), row("b.jpg", face=5), row(face=0), row(points=POINTS + 9, face=1)]
        for name in ("landmarks.csv", "landmarks.parquet"):
            found = LandmarkFile(written(tmp_path, *rows, name=name)).faces("a.jpg", SIZE)
            assert [face.x for face in found] == pytest.approx([130.0, 139.0, 160.0])


def test_landmarks_outside_the_picture_are_of_another_one(tmp_path: Path) -> None:
    file = LandmarkFile(written(tmp_path, row()))
    assert file.faces("a.jpg", (108, 131))
    for size in ((100, 400), (300, 120)):
        with pytest.raises(LandmarkError, match=r"landmarks\.csv: .*'a\.jpg'.*\(130, 107\), outside .*EXIF"):
            file.faces("a.jpg", size)


SWAPPED = POINTS[[1, 0, 3, 2]]


class TestRefused:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([row(), row("b", POINTS * [1, np.nan])], r"row 2, image 'b', has no number as its left_eye_y \(got ''\)"),
            ([row(left_mouth_x="left")], r"row 1, image 'a\.jpg', has no number as its left_mouth_x \(got 'left'\)"),
            ([row(right_eye_x="inf"), row("b"), row("c", right_eye_x="")], "right_eye_x.*'inf'.*1 more rows like it"),
            ([row(), row("")], "row 2, image '', has no image id"),
            ([row(), row()], r"row 2, image 'a\.jpg', is the second one of this image; .* needs the column face"),
            ([row(face=1), row(face="1")], r"row 2, image 'a\.jpg', gives the same face a second time \(got '1'\)"),
            ([row(face=-1)], "no whole number 0, 1, ... as its face.*'-1'"),
            ([row(face=0), row(face=0.5)], "row 2.*no whole number 0, 1, ... as its face.*'0.5'"),
            ([row(confidence=0.9)], "has unknown columns: confidence"),
            ([{"id": "a", "left_eye_x": 3}], "lacks the columns left_eye_y, right_eye_x"),
            ([{"path": "a"} | sixty_eight(POINTS)], r"lacks the columns id(.|\n)*unknown columns: path"),
            ([row(), row("b", SWAPPED), row("c", SWAPPED)], "row 2, image 'b', is of no face: .*picture.*1 more"),
            ([row("b", POINTS[[0, 1, 3, 2]])], "row 1, image 'b', is of no face: the mouth corners are crossed"),
            ([row("b", POINTS / 300)], "is of no face: the crop would be 0.8 pixels wide: .* pixels, not shares"),
        ],
    )
    def test_names_file_row_and_cause(self, tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
        with pytest.raises(ConfigError, match=rf"landmarks\.csv: (.|\n)*{message}"):
            LandmarkFile(written(tmp_path, *rows))

    def test_missing_numbers_of_a_parquet_file(self, tmp_path: Path) -> None:
        path = written(tmp_path, row(), row("b", left_eye_x=None), name="landmarks.parquet")
        with pytest.raises(ConfigError, match=r"landmarks\.parquet: row 2, image 'b', has no number as its left_eye_x"):
            LandmarkFile(path)

    def test_what_is_no_table(self, tmp_path: Path) -> None:
        (tmp_path / "empty.csv").write_text("")
        (tmp_path / "heading.csv").write_text(",".join(["id", *FIVE_POINTS]))
        (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
        (tmp_path / "points.json").write_text("{}")
        (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
        for name, message in {
            "empty.csv": "is no table of landmarks",
            "heading.csv": "holds no rows",
            "broken.parquet": "is no table of landmarks",
            "points.json": "come as .csv or .parquet",
            "binary.csv": "is no table of landmarks",
            "missing.csv": "cannot be read: No such file",
        }.items():
            with pytest.raises(ConfigError, match=f"{name}: .*{message}"):
                LandmarkFile(tmp_path / name)
