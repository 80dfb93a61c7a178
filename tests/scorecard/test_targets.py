"""Targets of a hand-made face: where they are, where points may lie, where they count."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from s3pot.images import write_png
from s3pot.ladder import LadderImage
from s3pot.scorecard.targets import Target, composite_pictures, natural_pictures, occluder_extent


def by_kind(targets: tuple[Target, ...]) -> dict[str, Target]:
    return {target.kind: target for target in targets}


def test_the_targets_of_a_composite(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    targets = by_kind(composite_pictures([entry])[0].targets)
    assert sorted(targets) == ["occluder", "part", "visible_face"]
    # Face 48 x 48, occluder 16 x 32 of it, nose 24 x 20 untouched by it.
    occluder, visible, nose = targets["occluder"], targets["visible_face"], targets["part"]
    assert (occluder.inside.sum(), occluder.contrast.sum(), occluder.counted.sum()) == (512, 2304 - 512, 2304)
    assert (visible.inside.sum(), visible.positives.sum()) == (1792, 1792 - 480)
    assert (nose.name, nose.inside.sum(), nose.contrast.sum()) == ("nose", 480, 1792 - 480)
    assert visible.counted.all()
    assert nose.counted.all()


def test_a_part_that_shows_less_than_400_pixels_is_left_out(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    assert entry.truth.occlusion is not None
    entry.truth.occlusion[24:48, 24:28] = True  # 96 of the 480 pixels of the nose
    assert "part" not in by_kind(composite_pictures([entry])[0].targets)


def test_faces_without_occluder_are_left_out(make_composite: Callable[..., LadderImage]) -> None:
    pictures = composite_pictures([make_composite("clean", occluder=False), make_composite("b")])
    assert [picture.id for picture in pictures] == ["b"]


def test_an_occluder_file_makes_all_of_it_count(make_composite: Callable[..., LadderImage], tmp_path: Path) -> None:
    drawn = np.zeros((64, 64), dtype=np.uint8)
    drawn[0:24, 0:40] = 255
    write_png(tmp_path / "o.png", drawn)
    entry = make_composite(occluder_path=tmp_path / "o.png")
    occluder = by_kind(composite_pictures([entry])[0].targets)["occluder"]
    assert occluder.inside.sum() == 24 * 40
    assert occluder.counted.all()
    assert (occluder_extent(entry) == (drawn > 0)).all()


def test_beyond_the_face_the_extent_is_what_changed(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    entry.image[0:4, 0:4] = 200  # beyond the face
    entry.image[50:54, 50:54] = 200  # inside: a shadow, not truth
    expected = entry.truth.occlusion.copy()  # type: ignore[union-attr]
    expected[0:4, 0:4] = True
    assert (occluder_extent(entry) == expected).all()


def test_natural_pictures_are_central_squares() -> None:
    image = np.zeros((100, 140, 3), dtype=np.uint8)
    image[:, 20:120] = 255
    segments = np.zeros((100, 140), dtype=np.int32)
    segments[:50, 20:70] = 1
    segments[50:53, 20:120] = 2  # 300 pixels
    picture = natural_pictures([image], [[segments, segments * 0]], 100)[0]
    assert picture.image.shape == (100, 100, 3)
    assert picture.image.min() == 255
    assert [(target.name, int(target.inside.sum())) for target in picture.targets] == [("0", 7200), ("1", 2500)]
    assert all((target.contrast == ~target.inside).all() for target in picture.targets)


def test_a_segment_that_fills_the_picture_is_left_out() -> None:
    picture = natural_pictures([np.zeros((50, 50, 3), dtype=np.uint8)], [[np.zeros((50, 50), dtype=np.int32)]], 50)[0]
    assert picture.targets == ()
