import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from s3pot.images import encode_jpeg
from s3pot.parsing.classes import CLASSES
from s3pot.pretrain.portraits import celeba_crop, list_portraits, load_portraits
from s3pot.seeding import derive_seed
from tests.faces import draw_face
from tests.stand_ins import ASTRONAUT, DrawnFaceParser


def dots(left: tuple[int, int], right: tuple[int, int], mouth: tuple[int, int], size: int = 256) -> np.ndarray:
    """A parsing with two round eyes and a mouth at these places (x, y)."""
    parsing = np.zeros((size, size), np.uint8)
    for name, place in (("eyes", left), ("eyes", right), ("lip", mouth)):
        cv2.circle(parsing, place, 3, CLASSES.index(name), -1)
    return parsing


class TestCelebaCrop:
    def test_a_level_face_by_hand(self) -> None:
        # 60 between the eyes, 70 down to the mouth: max(4 x 60, 3.6 x 70) = 252, centre a tenth of the way down.
        crop = celeba_crop(dots((98, 120), (158, 120), (128, 190)))
        assert crop is not None
        assert (crop.x, crop.y, crop.side) == pytest.approx((128, 127, 252))
        assert crop.roll == pytest.approx(0.0)

    def test_a_wide_face_by_hand(self) -> None:
        crop = celeba_crop(dots((88, 120), (168, 120), (128, 180)))
        assert crop is not None
        assert crop.side == pytest.approx(320)

    def test_a_turned_face_is_a_turned_crop(self) -> None:
        turn = cv2.getRotationMatrix2D((128, 128), -15, 1.0)  # to the right
        left, right, mouth = (
            tuple(round(float(v)) for v in turn @ [*place, 1]) for place in ((98, 120), (158, 120), (128, 190))
        )
        crop = celeba_crop(dots(left, right, mouth))
        assert crop is not None
        assert math.degrees(crop.roll) == pytest.approx(15, abs=1)
        assert crop.side == pytest.approx(252, rel=0.02)

    @pytest.mark.parametrize("missing", ["eyes", "lip"])
    def test_without_eyes_or_mouth_there_is_none(self, missing: str) -> None:
        parsing = dots((98, 120), (158, 120), (128, 190))
        parsing[parsing == CLASSES.index(missing)] = 0
        assert celeba_crop(parsing) is None

    def test_labelled_faces_fill_their_picture(self, shared_data: Path) -> None:
        """The rule is the one that CelebA-HQ was cut with: its faces give back the whole picture."""
        from s3pot.pretrain.faces import list_faces, load_faces

        root = shared_data / "celebamask" / "train"
        crops = [celeba_crop(parsing) for parsing in load_faces(root, list_faces(root, "dev")[:20]).parsings]
        found = [crop for crop in crops if crop is not None]
        assert len(found) >= 18
        assert np.median([crop.side for crop in found]) == pytest.approx(256, rel=0.04)
        assert np.median([crop.x for crop in found]) == pytest.approx(127.5, abs=4)
        assert np.median([crop.y for crop in found]) == pytest.approx(127.5, abs=4)


def test_every_photograph_is_for_training_or_kept_aside(tmp_path: Path) -> None:
    names = [f"person-{number}" for number in range(60)]
    for name in [*names, "frederica-wilson"]:
        (tmp_path / f"{name}.jpg").touch()
    train, kept = list_portraits(tmp_path), list_portraits(tmp_path, kept_aside=True)
    assert sorted(path.stem for path in train + kept) == sorted(names), "what is in real_dev is in neither"
    assert {path.stem for path in kept} == {n for n in names if derive_seed(0, "portraits", n) < 0.2 * 2**63}
    assert 3 <= len(kept) <= 24


def test_a_folder_without_photographs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no photographs of people in .*jpg"):
        list_portraits(tmp_path)


def test_a_portrait_has_its_face_where_the_photograph_has_it(tmp_path: Path) -> None:
    (tmp_path / "someone.jpg").write_bytes(encode_jpeg(astronaut()[:300, 74:374]))
    (tmp_path / "wall.jpg").write_bytes(encode_jpeg(np.full((300, 200, 3), 90, np.uint8)))
    [portrait] = load_portraits(list_portraits(tmp_path) + list_portraits(tmp_path, kept_aside=True), DrawnFaceParser())
    assert portrait.image.shape == (240, 240, 3)
    assert portrait.parsing.shape == (240, 240)
    scale = 240 / 300
    # The stand-in sees the drawn face, which lies in its crop as the rule has it.
    drawn = celeba_crop(draw_face(256)[1])
    assert drawn is not None
    assert portrait.face.side / (ASTRONAUT.side * scale) == pytest.approx(drawn.side / 256, rel=0.12)
    assert portrait.face.x == pytest.approx((ASTRONAUT.x - 74) * scale, abs=10)
    # What the parser saw lies around the face, and only there.
    rows, cols = np.nonzero(portrait.parsing)
    assert cols.mean() == pytest.approx((ASTRONAUT.x - 74) * scale, abs=10)
    assert rows.max() < (ASTRONAUT.y + 0.6 * ASTRONAUT.side) * scale
