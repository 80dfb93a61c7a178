"""Occluders that need no download."""

import numpy as np

from s3pot.composite.drawn import drawn_cutouts


def test_they_are_distinct_visible_and_shaded() -> None:
    cutouts = drawn_cutouts()
    assert len({cutout.id for cutout in cutouts}) == len(cutouts) >= 6
    for cutout in cutouts:
        alpha = cutout.rgba[..., 3]
        assert cutout.id.startswith(f"{cutout.kind}/")
        assert (alpha == 255).mean() > 0.2
        assert 0 < ((alpha > 0) & (alpha < 255)).mean() < 0.2, "edges are soft, and only edges"
        assert cutout.rgba[..., :3][alpha == 255].std() > 3, "no flat colour that any threshold finds"


def test_cropped_to_what_is_visible() -> None:
    for cutout in drawn_cutouts():
        alpha = cutout.rgba[..., 3]
        assert alpha[0].any()
        assert alpha[-1].any()
        assert alpha[:, 0].any()
        assert alpha[:, -1].any()


def test_drawn_twice_is_the_same() -> None:
    for first, second in zip(drawn_cutouts(), drawn_cutouts(), strict=True):
        np.testing.assert_array_equal(first.rgba, second.rgba)
