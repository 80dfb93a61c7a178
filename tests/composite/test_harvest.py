"""Hats off labelled faces and segments off natural photographs; the faces are drawn here."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from s3pot.composite.compositor import compose
from s3pot.composite.cutouts import MAX_SIDE
from s3pot.composite.harvest import HAT_CANVAS, natural_segments, worn_hats
from s3pot.composite.placement import face_layout
from s3pot.data.folds import fold_of_face
from s3pot.parsing.classes import CELEBAMASK_HAT, celebamask_to_12
from tests.faces import draw_face

# From the 12 classes to labels of CelebAMask-HQ that mean the same.
TO_CELEBAMASK = np.array([0, 11, 6, 4, 13, 2, 1, 8, 17, 10, 3, 15], dtype=np.uint8)
PURPLE = (150, 20, 160)


def write_face(root: Path, name: str, *, hat_rows: slice = slice(0, 0), side: int = 128, turned: float = 0.0) -> None:
    """A drawn face under a purple hat that is as wide as the picture."""
    image, parsing = draw_face(side)
    labels = TO_CELEBAMASK[parsing]
    image[hat_rows], labels[hat_rows] = PURPLE, CELEBAMASK_HAT
    if turned:
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), turned, 1.0)
        image = cv2.warpAffine(image, turn, (side, side))
        labels = cv2.warpAffine(labels, turn, (side, side), flags=cv2.INTER_NEAREST)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(root / "images" / f"{name}.jpg", quality=98, subsampling=0)
    Image.fromarray(labels).save(root / "labels" / f"{name}.png")


def test_a_hat_comes_off_in_its_colour_around_the_wearer_s_eyes(tmp_path: Path) -> None:
    write_face(tmp_path, "a", hat_rows=slice(8, 40))
    [hat] = worn_hats(tmp_path)
    assert (hat.id, hat.kind) == ("hats/a", "hats")
    labels = np.asarray(Image.open(tmp_path / "labels" / "a.png"))
    layout = face_layout(celebamask_to_12(labels))
    side = round(HAT_CANVAS * layout.size[0])
    assert hat.rgba.shape == (side, side, 4)
    opaque = hat.rgba[..., 3] > 250
    np.testing.assert_allclose(hat.rgba[opaque][:, :3].mean(axis=0), PURPLE, atol=6)
    # Rows 8..39 of the picture, less a pixel of rim on either side, seen from the eyes in the middle of the canvas.
    rows = np.nonzero(opaque.mean(axis=1) > 0.5)[0] - (side - 1) / 2 + layout.eyes[1]
    assert rows.min() == pytest.approx(9, abs=2)
    assert rows.max() == pytest.approx(38, abs=2)
    assert not opaque[side // 2 :].any(), "nothing below the eyes"


def test_the_canvas_is_level_however_the_wearer_holds_the_head(tmp_path: Path) -> None:
    write_face(tmp_path, "level", hat_rows=slice(8, 40))
    write_face(tmp_path, "turned", hat_rows=slice(8, 40), turned=12.0)
    level, turned = (hat.rgba[..., 3] > 128 for hat in worn_hats(tmp_path))
    side = min(level.shape[0], turned.shape[0])

    def brim(opaque: np.ndarray) -> np.ndarray:
        # Lowest row of the hat in the middle columns, from the middle of the canvas.
        middle = opaque[:, opaque.shape[1] // 2 - side // 5 : opaque.shape[1] // 2 + side // 5]
        return middle.shape[0] - 1 - middle[::-1].argmax(axis=0) - opaque.shape[0] / 2

    slope = np.polyfit(np.arange(brim(turned).size), brim(turned), 1)[0]
    assert abs(slope) < np.tan(np.deg2rad(3))
    assert np.median(brim(turned)) == pytest.approx(np.median(brim(level)), abs=3)


def test_a_hat_worn_again_covers_the_forehead_only(tmp_path: Path) -> None:
    write_face(tmp_path, "a", hat_rows=slice(8, 44))
    [hat] = worn_hats(tmp_path)
    image, parsing = draw_face(128)
    for seed in range(6):
        made = compose(image, parsing, [hat], np.random.default_rng(seed))
        assert made.occlusion.sum() > 0.03 * made.region.sum()
        mouth = face_layout(parsing).mouth
        assert not made.occlusion[round(mouth[1]) :].any()


def test_small_hats_and_small_faces_are_left_out(tmp_path: Path) -> None:
    write_face(tmp_path, "bare")
    write_face(tmp_path, "thin", hat_rows=slice(0, 3))  # 2.3 % of the picture
    write_face(tmp_path, "buried", hat_rows=slice(0, 106))  # a chin of a face
    write_face(tmp_path, "good", hat_rows=slice(8, 40))
    assert [hat.id for hat in worn_hats(tmp_path)] == ["hats/good"]


def test_only_hats_of_the_fold_and_none_that_are_excluded(tmp_path: Path) -> None:
    names = [f"face{number}" for number in range(40)]
    fold = {name: fold_of_face(name) for name in names}
    chosen = [next(name for name in names if fold[name] == wanted) for wanted in ("dev", "head", "prefix")]
    for name in chosen:
        write_face(tmp_path, name, hat_rows=slice(8, 40))
    assert [hat.id for hat in worn_hats(tmp_path, "head")] == [f"hats/{chosen[1]}"]
    assert {hat.id for hat in worn_hats(tmp_path, exclude=[chosen[0]])} == {f"hats/{name}" for name in chosen[1:]}
    assert worn_hats(tmp_path, "head", {chosen[1]}) == []


def test_a_large_hat_is_shrunk(tmp_path: Path) -> None:
    write_face(tmp_path, "a", hat_rows=slice(30, 200), side=512)
    [hat] = worn_hats(tmp_path)
    assert hat.rgba.shape == (MAX_SIDE, MAX_SIDE, 4)


def checkered(height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A photograph whose colour is 10 times the segment's id; segment 0 is the background."""
    segments = np.zeros((height, width), dtype=np.int32)
    segments[10:30, 10:30] = 3  # 400 of 4,800 pixels, compact
    segments[2:5, 2:5] = 5  # 0.2 %: a speck
    rows, cols = np.ogrid[:height, :width]
    segments[np.abs(rows - cols + 25) < 2] = 7  # a thin diagonal: fills little of its box
    return np.repeat((segments * 10).astype(np.uint8)[..., None], 3, axis=2), segments


def test_compact_segments_of_middle_size_are_taken() -> None:
    image, segments = checkered()
    [cutout] = natural_segments([image], [[segments, np.zeros_like(segments)]])
    assert (cutout.id, cutout.kind) == ("segments/0000-3", "segments")
    assert cutout.rgba.shape == (20, 20, 4)
    alpha = cutout.rgba[..., 3]
    assert alpha[4:-4, 4:-4].min() == 255
    assert alpha[:, 0].max() < 128, "the outermost pixels may show what lies behind"
    assert (cutout.rgba[alpha > 0][:, :3] == 30).all()


def test_segments_are_named_by_photograph(rng: np.random.Generator) -> None:
    image, segments = checkered()
    found = natural_segments([image, image], [[np.zeros_like(segments)], [segments]])
    assert [cutout.id for cutout in found] == ["segments/0001-3"]
    assert natural_segments([], []) == []


def test_a_large_segment_is_shrunk() -> None:
    segments = np.zeros((1300, 1300), dtype=np.int32)
    segments[100:600, 100:620] = 1
    [cutout] = natural_segments([np.full((1300, 1300, 3), 90, np.uint8)], [[segments]])
    assert max(cutout.rgba.shape[:2]) == MAX_SIDE


def test_real_hats(shared_data: Path) -> None:
    hats = worn_hats(shared_data / "celebamask" / "val")
    assert 3 <= len(hats) <= 12
    for hat in hats:
        assert hat.rgba.shape[0] == hat.rgba.shape[1] <= MAX_SIDE
        assert 0.03 < (hat.rgba[..., 3] > 128).mean() < 0.7, hat.id
