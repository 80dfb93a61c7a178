from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from s3pot.composite.cutouts import Cutout, list_cutouts, load_cutout
from s3pot.metrics.face_region import face_region
from s3pot.parsing.classes import CLASSES, face_mask
from s3pot.pretrain.faces import FaceBank, list_faces, load_faces
from s3pot.pretrain.samples import DECOY_SHARE, KIND_WEIGHTS, Sample, draw_cutout, draw_sample
from tests.faces import draw_face, draw_faces, make_cutout, make_cutouts


@pytest.fixture(scope="module")
def faces() -> FaceBank:
    return draw_faces(3, 64)


def samples(
    faces: FaceBank,
    number: int,
    occluded_share: float,
    size: int = 64,
    cutouts: Sequence[Cutout] | None = None,
    stage: str = "test",
) -> list[Sample]:
    return [
        draw_sample(
            faces,
            cutouts or make_cutouts(),
            size=size,
            seed=0,
            stage=stage,
            index=index,
            occluded_share=occluded_share,
        )
        for index in range(number)
    ]


def equal(first: Sample, other: Sample) -> bool:
    names = ("image", "clean", "parsing", "occluder", "region")
    return all(np.array_equal(getattr(first, name), getattr(other, name)) for name in names)


def test_a_sample_depends_on_seed_stage_and_index_alone(faces: FaceBank) -> None:
    forward = samples(faces, 4, 0.7)
    [again] = samples(faces, 4, 0.7)[3:]
    assert equal(forward[3], again)
    assert not equal(forward[2], forward[3])
    assert not equal(forward[3], samples(faces, 4, 0.7, stage="other")[3])


@pytest.mark.parametrize("size", [32, 64, 96])
def test_samples_have_the_size_asked_for(faces: FaceBank, size: int) -> None:
    for sample in samples(faces, 3, 0.7, size):
        assert sample.image.shape == sample.clean.shape == (size, size, 3)
        assert sample.parsing.shape == sample.occluder.shape == sample.region.shape == (size, size)
        assert np.array_equal(sample.region, face_region(sample.parsing))


def test_a_smaller_sample_shows_the_same_face() -> None:
    # Draws do not depend on the size, so the same index at half the size is the same picture, smaller.
    bank = draw_faces(2, 128)
    for large, small in zip(samples(bank, 4, 0.0, 128), samples(bank, 4, 0.0, 64), strict=True):
        shrunk = cv2.resize(large.clean, (64, 64), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(shrunk - small.clean).mean() < 6
        labels = cv2.resize(large.parsing, (64, 64), interpolation=cv2.INTER_NEAREST_EXACT)
        assert (labels == small.parsing).mean() > 0.9


def test_occluders_decoys_and_clean_faces_come_in_the_shares_asked_for(faces: FaceBank) -> None:
    drawn = samples(faces, 300, 0.6, 32)
    occluded = [sample for sample in drawn if sample.occluder.any()]
    assert len(occluded) / 300 == pytest.approx(0.6, abs=0.09)
    assert all((sample.image != sample.clean).any() for sample in occluded)
    bare = [sample for sample in drawn if not sample.occluder.any()]
    assert all(np.array_equal(sample.image, sample.clean) for sample in bare), "nothing is to be removed from a decoy"


def test_one_picture_in_ten_is_a_decoy(faces: FaceBank, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3pot.pretrain import samples as module

    called = Counter()
    for name in ("compose", "compose_decoy"):
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, name=name, original=original: (called.update([name]), original(*given))[1]
        )
    samples(faces, 300, 0.5, 32)
    assert DECOY_SHARE == 0.1
    assert called["compose_decoy"] / 300 == pytest.approx(0.1, abs=0.05)
    assert called["compose"] / 300 == pytest.approx(0.5, abs=0.09)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 30)])
def test_none_or_all_carry_an_occluder(faces: FaceBank, share: float, expected: int) -> None:
    assert sum(sample.occluder.any() for sample in samples(faces, 30, share, 32)) == expected


def test_the_picture_changes_where_the_occluder_lies(faces: FaceBank) -> None:
    blue = [make_cutout("objects", "disc", (0, 0, 255), (120, 120))]
    for sample in samples(faces, 10, 1.0, cutouts=blue):
        inner = cv2.erode(sample.occluder.astype(np.uint8), np.ones((5, 5))) > 0
        outer = cv2.dilate(sample.occluder.astype(np.uint8), np.ones((31, 31))) > 0
        blueness = sample.image[..., 2].astype(int) - sample.image[..., 0]
        plain = sample.clean[..., 2].astype(int) - sample.clean[..., 0]
        assert (blueness - plain)[inner].mean() > 60
        assert np.array_equal(sample.image[~outer], sample.clean[~outer]), "light changes both pictures alike"


def test_labels_move_with_the_picture() -> None:
    # Every class has its own grey value, so the labels can be read off the picture; light keeps their order.
    _, parsing = draw_face(128)
    grey = (parsing[..., None] * 20 + 10).repeat(3, axis=2).astype(np.uint8)
    bank = FaceBank(ids=("grey",), images=grey[None], parsings=parsing[None])
    for sample in samples(bank, 12, 0.0, 128):
        inner = cv2.erode((sample.parsing == CLASSES.index("skin")).astype(np.uint8), np.ones((7, 7))) > 0
        values = sample.clean[inner].astype(int)
        assert inner.sum() > 200
        assert values.std(axis=0).max() < 2, "skin lies on one grey value only when picture and labels agree"


def test_faces_are_mirrored_turned_and_zoomed() -> None:
    _, parsing = draw_face(128)
    one_eyed = parsing.copy()
    one_eyed[:, 64:][one_eyed[:, 64:] == CLASSES.index("eyes")] = CLASSES.index("skin")
    bank = FaceBank(ids=("a",), images=np.full((1, 128, 128, 3), 128, np.uint8), parsings=one_eyed[None])
    drawn = samples(bank, 60, 0.0, 128)
    sides, areas = [], []
    for sample in drawn:
        eye, face = np.nonzero(sample.parsing == CLASSES.index("eyes"))[1], np.nonzero(face_mask(sample.parsing))[1]
        sides.append(eye.mean() > face.mean())
        areas.append(face.size)
    assert 15 < sum(sides) < 45
    # Zoom runs from 0.85 to 1.2: areas from 0.72 to 1.44 of the drawn one, less what leaves the picture.
    drawn_area = face_mask(parsing).sum()
    assert 0.65 < min(areas) / drawn_area < 0.85
    assert 1.15 < max(areas) / drawn_area < 1.5


def test_a_picture_without_a_face_stays_as_it_is() -> None:
    bank = FaceBank(
        ids=("wall",), images=np.full((1, 32, 32, 3), 90, np.uint8), parsings=np.zeros((1, 32, 32), np.uint8)
    )
    for sample in samples(bank, 10, 1.0, 32):
        assert not sample.occluder.any()
        assert not sample.region.any()


def test_kinds_are_drawn_by_their_weights() -> None:
    cutouts = make_cutouts() + [make_cutout("objects", f"disc{number}") for number in range(30)]
    rng = np.random.default_rng(0)
    drawn = [draw_cutout(cutouts, rng) for _ in range(3000)]
    counts = Counter(cutout.kind for cutout in drawn)
    total = sum(KIND_WEIGHTS[kind] for kind in ("hands", "sunglasses", "masks", "objects"))
    for kind in ("hands", "sunglasses", "masks", "objects"):  # 30 more discs do not make objects more frequent
        assert counts[kind] / 3000 == pytest.approx(KIND_WEIGHTS[kind] / total, abs=0.03)
    assert len({cutout.id for cutout in drawn if cutout.kind == "objects"}) == 31
    assert sum(KIND_WEIGHTS.values()) == pytest.approx(1.0)


def test_a_kind_without_a_weight_is_drawn_too() -> None:
    cutouts = [make_cutout("hands", "palm"), make_cutout("microphones", "mic")]
    rng = np.random.default_rng(0)
    counts = Counter(draw_cutout(cutouts, rng).kind for _ in range(500))
    assert counts["microphones"] / 500 == pytest.approx(0.25, abs=0.06)


def test_samples_of_real_faces_are_mostly_occluded(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    bank = load_faces(root, list_faces(root, "dev")[:2], 128)
    listed = list_cutouts(shared_data / "occluders" / "train", "dev")[::40]
    cutouts = [load_cutout(kind, path) for kind, path in listed]
    drawn = samples(bank, 10, 1.0, 128, cutouts)
    shares = [(sample.occluder & sample.region).sum() / sample.region.sum() for sample in drawn]
    assert np.median(shares) > 0.04
    assert all(0.1 < sample.region.mean() < 0.6 for sample in drawn)
