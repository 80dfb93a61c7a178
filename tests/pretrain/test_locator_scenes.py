import math

import cv2
import numpy as np
import pytest

from s3pot.locator import LocatedFace
from s3pot.pretrain import locator_scenes
from s3pot.pretrain.faces import FaceBank
from s3pot.pretrain.locator_scenes import Scene, SceneMaterial, draw_scene
from s3pot.pretrain.portraits import Portrait
from tests.faces import draw_face, draw_faces, make_cutout, make_cutouts

GREY = np.full((120, 180, 3), 100, np.uint8)


def material(**changes: object) -> SceneMaterial:
    faces: dict[str, object] = {
        "faces": draw_faces(2, 128),
        "portraits": [],
        "cutouts": make_cutouts(),
        "backgrounds": [GREY],
    }
    return SceneMaterial(**(faces | changes))  # type: ignore[arg-type]


def draw(source: SceneMaterial, index: int, size: int = 160) -> Scene:
    return draw_scene(source, size=size, seed=0, stage="test", index=index)


def marked_faces() -> FaceBank:
    """Grey faces with three strong dots: red at the centre, green to its right, blue above it, a fifth of the side."""
    image = np.full((128, 128, 3), 100, np.uint8)
    for place, color in (((64, 64), (255, 0, 0)), ((90, 64), (0, 255, 0)), ((64, 38), (0, 0, 255))):
        cv2.circle(image, place, 6, color, -1)
    parsing = draw_face(128)[1]
    return FaceBank(ids=("a",), images=image[None], parsings=parsing[None])


def middle_of(image: np.ndarray, channel: int) -> np.ndarray | None:
    pixels = image.astype(int)
    strong = pixels[..., channel] - np.delete(pixels, channel, axis=2).max(axis=2) > 80
    rows, cols = np.nonzero(strong)
    return np.array([cols.mean(), rows.mean()]) if rows.size > 4 else None


def test_the_crop_lies_where_the_face_was_laid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Centre, side and roll are read off marks on the face, mirrored scenes and turned ones included."""
    monkeypatch.setattr(locator_scenes, "OCCLUDED_SHARE", 0.0)
    monkeypatch.setattr(locator_scenes, "PAIR_SHARE", 0.0)
    monkeypatch.setattr(locator_scenes, "_photograph", lambda canvas, rng: canvas)
    source, checked, mirrored = material(faces=marked_faces()), 0, 0
    for index in range(60):
        scene = draw(source, index)
        marks = [middle_of(scene.image, channel) for channel in range(3)]
        if len(scene.faces) != 1 or any(mark is None for mark in marks) or scene.faces[0].side < 50:
            continue
        [face], (center, right, above) = scene.faces, marks
        unit = face.side / 128
        if min(np.r_[center, right, above]) < 8 * unit or max(np.r_[center, right, above]) > 80:
            continue  # a mark that is cut off has another middle
        up = above - center
        assert np.hypot(*(center - [face.x, face.y] - 0.5 * unit)) < 1.5
        assert np.hypot(*up) == pytest.approx(26 * unit, abs=1.5)
        assert math.atan2(up[0], -up[1]) == pytest.approx(face.roll, abs=0.08)
        mirrored += (right - center) @ [math.cos(face.roll), math.sin(face.roll)] < 0
        checked += 1
    assert checked >= 8
    assert 0 < mirrored < checked


def test_a_scene_comes_again_and_depends_on_nothing_else() -> None:
    source = material()
    scenes = [draw(source, index) for index in range(4)]
    for index in (3, 1):
        again = draw(source, index)
        np.testing.assert_array_equal(again.image, scenes[index].image)
        assert again.faces == scenes[index].faces
    assert not np.array_equal(scenes[0].image, scenes[1].image)


def test_scenes_have_no_one_two_or_near_full_faces() -> None:
    source = material()
    scenes = [draw(source, index, size=64) for index in range(150)]
    numbers = [len(scene.faces) for scene in scenes]
    assert set(numbers) == {0, 1, 2}
    assert numbers.count(1) > 90
    faces = [face for scene in scenes for face in scene.faces]
    sides = np.array([face.side / 64 for face in faces])
    assert 0.24 < sides.min() < 0.35
    assert 1.2 < sides.max() <= 1.6
    assert max(abs(face.roll) for face in faces) <= math.radians(25) + 1e-6
    assert all(0 <= face.x <= 63 and 0 <= face.y <= 63 for face in faces), "a centre in the padding cannot be learnt"
    for scene in scenes:
        if len(scene.faces) == 2:
            a, b = scene.faces
            assert math.hypot(a.x - b.x, a.y - b.y) > 0.39 * (a.side + b.side)


def test_letterboxed_at_the_bottom_or_right() -> None:
    shapes = set()
    for index in range(30):
        image = draw(material(), index, size=64).image
        padded = (image == 127).all(axis=2)
        rows, cols = 64 - int(padded.all(axis=1).sum()), 64 - int(padded.all(axis=0).sum())
        assert rows == 64 or cols == 64
        shapes.add((rows == 64, cols == 64))
    assert shapes == {(True, True), (True, False), (False, True)}


def test_occluders_cover_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locator_scenes, "NOBODY_SHARE", 0.0)
    monkeypatch.setattr(locator_scenes, "_photograph", lambda canvas, rng: canvas)
    source = material(cutouts=[make_cutout("objects", "disc", (0, 0, 255), (90, 90))])

    def blue(share: float, index: int) -> bool:
        monkeypatch.setattr(locator_scenes, "OCCLUDED_SHARE", share)
        pixels = draw(source, index).image.astype(int)
        return bool(((pixels[..., 2] - pixels[..., :2].max(axis=2)) > 100).sum() > 20)

    assert not any(blue(0.0, index) for index in range(8))
    assert sum(blue(1.0, index) for index in range(8)) >= 6


def test_portraits_are_used_with_their_own_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locator_scenes, "PORTRAIT_SHARE", 1.0)
    monkeypatch.setattr(locator_scenes, "OCCLUDED_SHARE", 0.0)
    monkeypatch.setattr(locator_scenes, "PAIR_SHARE", 0.0)
    monkeypatch.setattr(locator_scenes, "_photograph", lambda canvas, rng: canvas)
    image = np.full((240, 240, 3), 100, np.uint8)
    cv2.circle(image, (150, 70), 8, (255, 0, 0), -1)
    face = LocatedFace(x=150.0, y=70.0, side=110.0)
    source = material(portraits=[Portrait(image=image, parsing=np.zeros((240, 240), np.uint8), face=face)])
    checked = 0
    for index in range(30):
        scene = draw(source, index)
        mark = middle_of(scene.image, 0)
        if scene.faces and mark is not None and 12 < mark.min() and mark.max() < 75:
            assert np.hypot(*(mark - [scene.faces[0].x, scene.faces[0].y])) < 2
            checked += 1
    assert checked >= 4
