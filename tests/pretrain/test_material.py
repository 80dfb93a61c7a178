from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from s3pot.composite import Cutout
from s3pot.data.folds import fold_of_cutouts, fold_of_face
from s3pot.pretrain.material import Material, is_hand_emoji, load_material, read_excluded

REPOSITORY = Path(__file__).parents[2]
EXCLUDED = read_excluded(REPOSITORY / "experiments" / "excluded_faces.txt")


@pytest.fixture(scope="module")
def whole(shared_data: Path) -> Material:
    return load_material(shared_data, EXCLUDED, limit=40)


def test_only_fold_prefix_is_read(whole: Material, shared_data: Path) -> None:
    assert len(whole.faces) == 40
    assert {fold_of_face(face) for face in whole.faces.ids} == {"prefix"}
    assert EXCLUDED.isdisjoint(whole.faces.ids)
    for kind in ("hands", "sunglasses", "emoji"):
        folder = shared_data / "occluders" / "train" / kind
        folds = fold_of_cutouts(kind, sorted(path.stem for path in folder.iterdir()))
        mine = [cutout.id.split("/")[1] for cutout in whole.cutouts if cutout.kind == kind]
        assert all(folds[stem] == "prefix" for stem in mine)
    hats = [cutout.id.split("/")[1] for cutout in whole.cutouts if cutout.kind == "hats"]
    assert hats, "hats come off the faces of the split"
    assert all(fold_of_face(stem) == "prefix" and stem not in EXCLUDED for stem in hats)
    assert any(cutout.kind == "segments" for cutout in whole.cutouts)


def test_a_kind_is_left_out_and_nothing_else(whole: Material, shared_data: Path) -> None:
    handless = load_material(shared_data, EXCLUDED, leave_out=["hands", "hats"], limit=40)
    expected = Counter(
        cutout.kind for cutout in whole.cutouts if cutout.kind not in {"hands", "hats"} and not is_hand_emoji(cutout)
    )
    assert Counter(cutout.kind for cutout in handless.cutouts) == expected
    assert expected["emoji"] > 0


def test_a_kind_that_is_not_there_is_an_error(shared_data: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot leave out hand: the kinds there are .*emoji"):
        load_material(shared_data, (), leave_out=["hand"], limit=4)


@pytest.mark.parametrize(
    ("kind", "stem", "expected"),
    [
        ("emoji", "1f44d-1f3fb", True),
        ("emoji", "270b", True),
        ("emoji", "1f4aa", True),
        ("emoji", "1f600", False),
        ("emoji", "thing1", False),
        ("objects", "1f44d", False),
    ],
)
def test_emoji_of_hands_are_known(kind: str, stem: str, expected: bool) -> None:
    cutout = Cutout(id=f"{kind}/{stem}", kind=kind, rgba=np.zeros((2, 2, 4), np.uint8))
    assert is_hand_emoji(cutout) == expected


def test_excluded_ids_are_read_without_comments(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("# heading\n\nabc  # hat\ndef\n")
    assert read_excluded(tmp_path / "ids.txt") == {"abc", "def"}
