"""Face landmarks from a file: what any detector found, so that none has to be a dependency.

CSV or Parquet, one row per face, coordinates in pixels of the photograph after its EXIF rotation, the middle of the
first pixel at 0:

    id      image id: that of the manifest, or the file's name relative to the input folder
    face    0, 1, ... where a photograph has several faces; may be left out where none has
    either  left_eye_x, left_eye_y, right_eye_x, right_eye_y, left_mouth_x, left_mouth_y, right_mouth_x, right_mouth_y
            (centres of the eyes, corners of the mouth, left as in the picture; nose_x and nose_y may be there, unused)
    or      x_0, y_0 ... x_67, y_67, the 68 points of iBUG 300-W as dlib and others number them: the eyes are the means
            of points 36-41 and 42-47, the mouth corners points 48 and 54, as in the alignment of FFHQ
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from s3pot.config import ConfigError
from s3pot.crop_rule import face_from_landmarks
from s3pot.locator import LocatedFace

FIVE_POINTS: tuple[str, ...] = tuple(
    f"{name}_{axis}" for name in ("left_eye", "right_eye", "left_mouth", "right_mouth") for axis in "xy"
)
SIXTY_EIGHT_POINTS: tuple[str, ...] = tuple(f"{axis}_{number}" for number in range(68) for axis in "xy")
_UNUSED = ("nose_x", "nose_y")
# Means of these points of the 68 are the eyes and mouth corners, in the order of `FIVE_POINTS`.
_IBUG_PARTS = (range(36, 42), range(42, 48), (48,), (54,))
# A crop of fewer pixels shows no face: most likely the coordinates are shares of the picture.
_LEAST_SIDE = 8.0


class LandmarkError(ValueError):
    """Landmarks do not fit their photograph; the message names file and image."""


class LandmarkFile:
    """The faces of a landmark file, by image id.

    Args:
        path: CSV or Parquet file; every row is checked.

    Raises:
        ConfigError: if the file cannot be read, columns are missing or unknown, or a row is not sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        table = _read_table(path)
        columns = _point_columns(path, list(table.columns))
        if table.empty:
            raise ConfigError(str(path), ["holds no rows"])
        table["id"] = table["id"].map(lambda value: "" if pd.isna(value) else str(value))
        _refuse(path, table, (table["id"] == "").to_numpy(), "has no image id")
        numbers = self._face_numbers(table)
        self._points = self._read_points(table, columns)
        self._check_faces(table)
        order = np.argsort(numbers, kind="stable")
        self._rows: dict[str, list[int]] = {}
        for row, image_id in zip(order.tolist(), table["id"].to_numpy()[order], strict=True):
            self._rows.setdefault(image_id, []).append(row)

    @property
    def ids(self) -> list[str]:
        """Ids of the images that have landmarks."""
        return list(self._rows)

    def faces(self, image_id: str, size: tuple[int, int]) -> list[LocatedFace]:
        """Return the crops of an image's faces, by their number.

        Args:
            image_id: id of the image; one without a row has no faces.
            size: (height, width) of the photograph.

        Raises:
            LandmarkError: if a face lies outside the photograph.
        """
        faces = [face_from_landmarks(*self._points[row]) for row in self._rows.get(image_id, [])]
        height, width = size
        for face in faces:
            if not (-0.5 <= face.x <= width - 0.5 and -0.5 <= face.y <= height - 0.5):
                raise LandmarkError(
                    f"{self.path}: a face of the image {image_id!r} is centred on ({face.x:.0f}, {face.y:.0f}), "
                    f"outside its {width} x {height} pixels: landmarks are in pixels of the original photograph, after "
                    "its EXIF rotation"
                )
        return faces

    def _face_numbers(self, table: pd.DataFrame) -> Float64[np.ndarray, " n"]:
        if "face" not in table.columns:
            hint = "a photograph with several faces needs the column face (0, 1, ...)"
            _refuse(self.path, table, table["id"].duplicated().to_numpy(), f"is the second one of this image; {hint}")
            return np.zeros(len(table))
        numbers = _numbers(table["face"])
        whole = np.isfinite(numbers) & (numbers >= 0) & (numbers == np.floor(numbers))
        _refuse(self.path, table, ~whole, "has no whole number 0, 1, ... as its face", "face")
        twice = pd.DataFrame({"id": table["id"], "face": numbers}).duplicated().to_numpy()
        _refuse(self.path, table, twice, "gives the same face a second time", "face")
        return numbers

    def _read_points(self, table: pd.DataFrame, columns: tuple[str, ...]) -> Float64[np.ndarray, "n 4 2"]:
        values = np.stack([_numbers(table[name]) for name in columns], axis=1)
        for place, name in enumerate(columns):
            _refuse(self.path, table, ~np.isfinite(values[:, place]), f"has no number as its {name}", name)
        points = values.reshape(len(table), -1, 2)
        if columns is FIVE_POINTS:
            return points
        return np.stack([points[:, list(part)].mean(axis=1) for part in _IBUG_PARTS], axis=1)

    def _check_faces(self, table: pd.DataFrame) -> None:
        """Refuse what is no face now: hours later it would be a row of a store with a strange crop."""
        problems: dict[int, str] = {}
        for row, points in enumerate(self._points):
            try:
                side = face_from_landmarks(*points).side
            except ValueError as error:
                problems[row] = str(error)
                continue
            if side < _LEAST_SIDE:
                problems[row] = f"the crop would be {side:.1f} pixels wide: coordinates must be pixels, not shares"
        where = np.isin(np.arange(len(table)), list(problems))
        _refuse(self.path, table, where, f"is of no face: {problems[min(problems)]}" if problems else "")


def _read_table(path: Path) -> pd.DataFrame:
    if path.suffix not in {".csv", ".parquet"}:
        raise ConfigError(str(path), ["landmarks come as .csv or .parquet"])
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # As text: an image may be called "007" or "NA".
        return pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror or error}"]) from error
    except ValueError as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise ConfigError(str(path), [f"is no table of landmarks: {error}"]) from error


def _point_columns(path: Path, names: list[str]) -> tuple[str, ...]:
    """Return the columns of the points, in order; which of the two forms is meant shows in the first x."""
    points = SIXTY_EIGHT_POINTS if set(SIXTY_EIGHT_POINTS) & set(names) else FIVE_POINTS
    optional = {"face", *(_UNUSED if points is FIVE_POINTS else ())}
    missing = [name for name in ("id", *points) if name not in names]
    unknown = [str(name) for name in names if name not in {"id", *points, *optional}]
    problems = []
    if missing:
        problems.append(f"lacks the columns {_listed(missing)}; landmarks are {_listed(FIVE_POINTS)} or x_0 ... y_67")
    if unknown:
        problems.append(f"has unknown columns: {_listed(unknown)}; leave out what is no landmark")
    if problems:
        raise ConfigError(str(path), problems)
    return points


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _numbers(column: "pd.Series[Any]") -> Float64[np.ndarray, " n"]:
    """Read numbers; NaN for what is none."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _refuse(path: Path, table: pd.DataFrame, bad: Bool[np.ndarray, " n"], problem: str, column: str = "") -> None:
    """Raise for the first of the bad rows; rows are counted from 1, the heading is none."""
    if not bad.any():
        return
    row = int(bad.argmax())
    got = f" (got {table[column].iloc[row]!r})" if column else ""
    others = f"; {int(bad.sum()) - 1} more rows like it" if bad.sum() > 1 else ""
    raise ConfigError(str(path), [f"row {row + 1}, image {table['id'].iloc[row]!r}, {problem}{got}{others}"])
