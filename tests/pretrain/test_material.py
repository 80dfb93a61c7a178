from collections import Counter
from pathlib import Path

import pytest

from s3pot.data.folds import fold_of_cutouts, fold_of_face
from s3pot.pretrain.material import load_material, read_excluded

REPOSITORY = Path(__file__).parents[2]


def test_only_fold_prefix_is_read(shared_data: Path) -> None:
    excluded = read_excluded(REPOSITORY / "experiments" / "excluded_faces.txt")
    material = load_material(shared_data, excluded, limit=12)
    assert len(material.faces) == 12
    assert {fold_of_face(face) for face in material.faces.ids} == {"prefix"}
    assert excluded.isdisjoint(material.faces.ids)
    for kind in ("hands", "sunglasses", "emoji"):
        folder = shared_data / "occluders" / "train" / kind
        folds = fold_of_cutouts(kind, sorted(path.stem for path in folder.iterdir()))
        mine = [cutout.id.split("/")[1] for cutout in material.cutouts if cutout.kind == kind]
        assert all(folds[stem] == "prefix" for stem in mine)
    hats = [cutout.id.split("/")[1] for cutout in material.cutouts if cutout.kind == "hats"]
    assert hats, "hats come off the faces of the split"
    assert all(fold_of_face(stem) == "prefix" and stem not in excluded for stem in hats)
    assert any(cutout.kind == "segments" for cutout in material.cutouts)


def test_a_kind_is_left_out_and_nothing_else(shared_data: Path) -> None:
    whole = Counter(cutout.kind for cutout in load_material(shared_data, (), limit=30).cutouts)
    without = Counter(cutout.kind for cutout in load_material(shared_data, (), leave_out=["emoji"], limit=30).cutouts)
    assert whole["emoji"] > 0
    assert without == Counter({kind: number for kind, number in whole.items() if kind != "emoji"})
    with pytest.raises(ValueError, match=r"cannot leave out hand: the kinds there are .*hands"):
        load_material(shared_data, (), leave_out=["hand"], limit=30)


def test_excluded_ids_are_read_without_comments(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("# heading\n\nabc  # hat\ndef\n")
    assert read_excluded(tmp_path / "ids.txt") == {"abc", "def"}
