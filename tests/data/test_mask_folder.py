from pathlib import Path

import numpy as np
import pytest

from s3pot.data.annotation import AnnotationError
from s3pot.data.mask_folder import annotation_of, read_mask
from s3pot.images import ImageError, write_png

MASK = np.array([[0, 255, 255], [0, 0, 255]], dtype=np.uint8)


def test_a_mask_is_what_is_above_127(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.array([[0, 127, 128], [1, 200, 255]], dtype=np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", (2, 3)), [[False, False, True], [False, True, True]])


def test_what_is_no_mask_of_the_picture(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", MASK)
    with pytest.raises(AnnotationError, match=r"a mask of \(2, 3\) for a picture of \(3, 2\)"):
        read_mask(tmp_path / "a.png", (3, 2))
    write_png(tmp_path / "a.png", MASK // 255)
    with pytest.raises(AnnotationError, match="values up to 1: is it a label map"):
        read_mask(tmp_path / "a.png", (2, 3))
    write_png(tmp_path / "a.png", MASK * 0)
    assert not read_mask(tmp_path / "a.png", (2, 3)).any(), "nothing occluded is a mask"
    with pytest.raises(ImageError, match="cannot be read"):
        read_mask(tmp_path / "gone.png", (2, 3))


def test_polarity() -> None:
    mask, region = MASK > 0, np.array([[1, 1, 0], [1, 1, 0]], dtype=bool)
    made = annotation_of(mask, region, "occlusion")
    np.testing.assert_array_equal(made.occlusion, [[0, 1, 0], [0, 0, 0]])
    made = annotation_of(mask, region, "visible_face")
    np.testing.assert_array_equal(made.occlusion, [[1, 0, 0], [1, 1, 0]])
    made = annotation_of(mask, None, "occlusion")
    assert made.region is None
    np.testing.assert_array_equal(made.occlusion, mask)
