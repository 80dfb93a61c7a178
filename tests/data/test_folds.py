import random
from collections import Counter
from pathlib import Path

import pytest

from s3pot.data.folds import fold_of_cutouts, fold_of_face

FOLDS = {"dev", "head", "prefix"}
HANDS = [f"hand{subject}_{letter}_bot_seg_{take}" for subject in (1, 2) for letter in "abcdefghij" for take in range(8)]
MASKS = [f"{template}{view}" for template in ("N95", "cloth", "surgical", "surgical_blue", "surgical_green")
         for view in ("", "_left", "_right")]  # fmt: skip


def test_shares_of_faces_are_about_right() -> None:
    counts = Counter(fold_of_face(f"{number:05d}") for number in range(5000))
    # Three standard deviations of a share of 0.7 among 5,000 are 0.02.
    assert counts["dev"] / 5000 == pytest.approx(0.10, abs=0.02)
    assert counts["head"] / 5000 == pytest.approx(0.20, abs=0.02)
    assert counts["prefix"] / 5000 == pytest.approx(0.70, abs=0.02)


@pytest.mark.parametrize(
    ("face_id", "fold"),
    [("00000", "head"), ("00001", "prefix"), ("00012", "dev")],
)
def test_faces_keep_their_folds(face_id: str, fold: str) -> None:
    # Stored runs are only comparable while these hold.
    assert fold_of_face(face_id) == fold


def test_similar_ids_do_not_share_a_fold() -> None:
    assert {fold_of_face(f"00000{end}") for end in "abcdefghijklmnopqrstuvwxyz"} == FOLDS


def test_cutouts_keep_their_folds_in_any_order() -> None:
    names = [f"item{number}" for number in range(40)]
    shuffled = random.Random(0).sample(names, len(names))
    assert fold_of_cutouts("objects", names) == fold_of_cutouts("objects", shuffled)
    assert fold_of_cutouts("hands", HANDS) == fold_of_cutouts("hands", HANDS[::-1])


def test_every_cutout_has_one_fold_and_shares_are_about_right() -> None:
    names = [f"item{number}" for number in range(1000)]
    folds = fold_of_cutouts("emoji", names)
    assert list(folds) == names
    assert Counter(folds.values()) == {"dev": 100, "head": 200, "prefix": 700}


@pytest.mark.parametrize("number", [3, 4, 8, 13, 15])
def test_no_fold_is_empty_from_three_cutouts_on(number: int) -> None:
    folds = fold_of_cutouts("scarves", [f"scarf{index}" for index in range(number)])
    assert set(folds.values()) == FOLDS
    assert Counter(folds.values())["prefix"] >= number // 3


def test_kinds_are_split_independently() -> None:
    names = [f"item{number}" for number in range(200)]
    assert fold_of_cutouts("objects", names) != fold_of_cutouts("emoji", names)


def test_views_of_a_mask_template_stay_together() -> None:
    folds = fold_of_cutouts("masks", MASKS)
    for name in MASKS:
        assert folds[name] == folds[name.removesuffix("_left").removesuffix("_right")]
    assert set(folds.values()) == FOLDS


def test_left_and_right_mean_views_only_for_masks() -> None:
    names = [f"cup{number}{end}" for number in range(60) for end in ("", "_left")]
    folds = fold_of_cutouts("objects", names)
    assert any(folds[f"cup{number}"] != folds[f"cup{number}_left"] for number in range(60))


def test_the_subjects_of_hands_are_kept_apart() -> None:
    folds = fold_of_cutouts("hands", HANDS)
    assert {folds[name] for name in HANDS if name.startswith("hand1_")} == {"prefix"}
    second = Counter(folds[name] for name in HANDS if name.startswith("hand2_"))
    assert set(second) == {"head", "dev"}
    assert second["dev"] / second.total() == pytest.approx(0.4, abs=0.2)


def test_hands_of_a_single_subject_are_never_in_prefix() -> None:
    folds = fold_of_cutouts("hands", [name for name in HANDS if name.startswith("hand2_")])
    assert set(folds.values()) == {"head", "dev"}


def test_real_collections_fill_every_fold(shared_data: Path) -> None:
    faces = Counter(fold_of_face(path.stem) for path in (shared_data / "celebamask/train/images").glob("*.jpg"))
    assert 60 <= faces["dev"] <= 100, "design 6 asks for about 80"
    for folder in (shared_data / "occluders/train").iterdir():
        folds = fold_of_cutouts(folder.name, [path.stem for path in folder.iterdir()])
        assert set(folds.values()) == FOLDS, folder.name
