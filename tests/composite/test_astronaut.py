"""The built-in composites, with the embedded parser as it ships."""

import numpy as np

from s3pot.composite.astronaut import HELD_OUT_CUTOUTS, astronaut_composites, astronaut_crops


def test_crops_differ_and_come_again() -> None:
    crops = astronaut_crops(3)
    assert all(crop.shape == (256, 256, 3) for crop in crops)
    assert not np.array_equal(crops[0], crops[1])
    np.testing.assert_array_equal(crops[2], astronaut_crops(3)[2])


def test_held_out_composites_share_no_occluder_with_the_others() -> None:
    crops = astronaut_crops(5)
    held_out = astronaut_composites(crops, held_out=True, clean=1)
    others = astronaut_composites(crops, held_out=False)
    assert held_out[0].composite.kind == "clean"
    assert {name for entry in held_out[1:] for name in entry.composite.cutout_ids} == HELD_OUT_CUTOUTS
    assert not {name for entry in others for name in entry.composite.cutout_ids} & HELD_OUT_CUTOUTS
    for entry in held_out[1:]:
        share = entry.composite.occlusion.sum() / entry.composite.region.sum()
        assert 0.02 < share < 0.8
        assert (entry.composite.region.mean()) > 0.1, "the embedded parser sees a face"
