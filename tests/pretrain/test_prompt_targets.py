from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from s3pot.metrics.face_region import face_region
from s3pot.parsing.classes import CLASSES
from s3pot.pretrain.faces import list_faces, load_faces
from s3pot.pretrain.prompt_targets import SET_SIZES, Regime, Target, draw_clicks, face_targets, segment_targets
from s3pot.pretrain.samples import Sample, draw_sample
from tests.faces import draw_face, make_cutouts

SIZE, PATCH = 128, 8
REGIMES = get_args(Regime)


def sample_with(occluder: np.ndarray | None = None) -> Sample:
    image, parsing = draw_face(SIZE)
    if occluder is None:
        occluder = np.zeros(parsing.shape, dtype=bool)
    return Sample(image=image, clean=image, parsing=parsing, occluder=occluder, region=face_region(parsing))


def disc(row: int = 70, col: int = 60, radius: int = 24) -> np.ndarray:
    rows, cols = np.ogrid[:SIZE, :SIZE]
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


def target(inside: np.ndarray | None = None, kind: str = "occluder", contrast: np.ndarray | None = None) -> Target:
    inside = disc() if inside is None else inside
    return Target(inside=inside, contrast=~inside if contrast is None else contrast, kind=kind)


def clicks_of(chosen: Target, regime: Regime, number: int = 100) -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_clicks(chosen, regime, PATCH, np.random.default_rng(seed)) for seed in range(number)]


def hits(points: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Look points up in a region; the middle of a pixel is a whole number."""
    cols, rows = np.clip(np.floor(points + 0.5), 0, SIZE - 1).astype(int).T
    return where[rows, cols]


def test_every_kind_of_target_is_drawn_and_occluders_are_the_most() -> None:
    counts = Counter(made.kind for made in face_targets(sample_with(disc()), 2000, np.random.default_rng(0)))
    assert set(counts) == {"occluder", "visible_face", "part", "surround"}
    assert counts["occluder"] < 1000, "an occluder is one kind of target among others"
    assert counts["visible_face"] > 400
    assert counts["part"] > 200
    assert counts["surround"] > 150


def test_only_what_is_visible_is_a_target() -> None:
    occluder = disc()
    sample = sample_with(occluder)
    for made in face_targets(sample, 300, np.random.default_rng(0)):
        assert not (made.inside & made.contrast).any()
        if made.kind == "occluder":
            assert np.array_equal(made.inside, occluder)
            assert np.array_equal(made.contrast, sample.region & ~occluder)
        else:
            assert not (made.inside & occluder).any()
        if made.kind == "visible_face":
            assert np.array_equal(made.inside, sample.region & ~occluder)
            assert np.array_equal(made.contrast, ~made.inside), "an occluder beside the face is not the face"


def test_parts_and_surroundings_are_single_classes() -> None:
    sample = sample_with()
    seen = set()
    for made in face_targets(sample, 400, np.random.default_rng(0)):
        if made.kind in {"part", "surround"}:
            [label] = np.unique(sample.parsing[made.inside])
            assert np.array_equal(made.inside, sample.parsing == label)
            seen.add((made.kind, CLASSES[label]))
    assert seen >= {("part", "nose"), ("part", "lip"), ("part", "eyes"), ("surround", "hair")}
    assert {kind for kind, name in seen if name in ("hair", "background", "below_face")} == {"surround"}


def test_without_an_occluder_none_is_asked_for() -> None:
    kinds = {made.kind for made in face_targets(sample_with(), 200, np.random.default_rng(0))}
    assert kinds == {"visible_face", "part", "surround"}
    speck = np.zeros((SIZE, SIZE), dtype=bool)
    speck[60, 40:69] = True  # 29 pixels: too little to be asked for
    assert "occluder" not in {made.kind for made in face_targets(sample_with(speck), 200, np.random.default_rng(0))}


def test_as_many_targets_as_asked_for_or_none() -> None:
    assert len(face_targets(sample_with(), 2, np.random.default_rng(0))) == 2
    sample = sample_with(np.ones((SIZE, SIZE), dtype=bool))
    assert {made.kind for made in face_targets(sample, 2, np.random.default_rng(0))} == {"occluder"}
    assert segment_targets(np.zeros((SIZE, SIZE), dtype=np.int32), 2, np.random.default_rng(0)) == []


def test_segments_are_targets_unless_tiny_or_nearly_everything() -> None:
    segments = np.zeros((SIZE, SIZE), dtype=np.int32)
    segments[:, 100:] = 7
    segments[:50, 100:] = 3
    segments[0, :29] = 9  # 29 pixels
    drawn = segment_targets(segments, 300, np.random.default_rng(0))
    counts = Counter()
    for made in drawn:
        [label] = np.unique(segments[made.inside])
        assert np.array_equal(made.contrast, segments != label)
        assert made.kind == "segment"
        counts[int(label)] += 1
    assert set(counts) == {0, 3, 7}
    assert counts[0] > counts[7] > counts[3], "larger segments more often"
    segments[:] = 1
    segments[:10] = 2  # 1 fills 92 %
    assert {int(segments[made.inside][0]) for made in segment_targets(segments, 20, np.random.default_rng(0))} == {2}


@pytest.mark.parametrize("regime", REGIMES)
def test_clicks_have_the_types_and_numbers_of_their_regime(regime: Regime) -> None:
    sizes = []
    for points, polarity in clicks_of(target(), regime):
        assert points.dtype == np.float32
        assert polarity.dtype == np.int64
        assert points.shape == (len(polarity), 2)
        assert set(polarity.tolist()) <= {0, 1}
        assert points.min() >= -0.5
        assert points.max() <= SIZE - 0.5
        sizes.append(len(points))
    assert 1 <= min(sizes) <= max(sizes) <= SET_SIZES[regime]
    least = 1 if regime == "single" else 0.7 * SET_SIZES[regime]
    assert max(sizes) >= least


def test_few_clicks_are_all_right() -> None:
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[40:80, 32:88] = True  # whole tokens: none is partly inside
    for points, polarity in clicks_of(target(inside), "few"):
        assert np.array_equal(hits(points, inside), polarity == 1)
        assert 1 <= (polarity == 1).sum() <= 3
        assert (polarity == 0).sum() <= 3


def test_a_single_click_is_one_where_that_says_enough() -> None:
    for kind, polarities in (("occluder", [1]), ("visible_face", [1]), ("segment", [1]), ("part", [1, 0])):
        for _, polarity in clicks_of(target(kind=kind), "single", 20):
            assert polarity.tolist() == polarities


def test_one_click_on_a_part_comes_with_one_beside_it() -> None:
    # One click on a nose alone could mean the face.
    for kind, least in (("part", 1), ("surround", 1), ("occluder", 0), ("visible_face", 0)):
        negatives = [int((polarity == 0).sum()) for _, polarity in clicks_of(target(kind=kind), "few")]
        assert min(negatives) == least


@pytest.mark.parametrize("regime", ["some", "dense"])
def test_up_to_three_in_ten_clicks_have_the_wrong_polarity(regime: Regime) -> None:
    inside = disc()
    shares = []
    for points, polarity in clicks_of(target(inside), regime, 200):
        if len(points) >= 20:
            shares.append((hits(points, inside) != (polarity == 1)).mean())
    shares = np.array(shares)
    assert (shares == 0).mean() > 0.2, "four sets in ten are right altogether"
    assert (shares > 0.05).mean() > 0.3
    assert np.mean(shares) < 0.2
    assert shares.max() < 0.5


def test_dense_clicks_follow_the_areas() -> None:
    small, large = target(disc(radius=15)), target(disc(radius=50))
    shares = [np.mean([polarity.mean() for _, polarity in clicks_of(made, "dense", 40)]) for made in (small, large)]
    areas = [made.inside.mean() for made in (small, large)]
    assert shares[0] < 0.25
    assert shares[1] == pytest.approx(areas[1], abs=0.1)


def test_clicks_often_lie_at_token_centres() -> None:
    at_centers = []
    for points, _ in clicks_of(target(), "some", 200):
        at_centers.append(np.array_equal((points + 0.5) % PATCH, np.full(points.shape, PATCH / 2)))
    assert 0.5 < np.mean(at_centers) < 0.7


def test_a_token_counts_as_inside_when_more_than_half_of_it_is() -> None:
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[40:64, 40:64] = True
    inside[40:64, 64:68] = True  # half of the next column of tokens: not more than half
    for points, polarity in clicks_of(target(inside), "few"):
        token = np.floor((points + 0.5) / PATCH).astype(int)
        if np.array_equal((points + 0.5) % PATCH, np.full(points.shape, PATCH / 2)):
            assert ((token[polarity == 1] >= 5) & (token[polarity == 1] < 8)).all()


def test_a_region_smaller_than_a_token_is_clicked_at_its_pixels() -> None:
    thin = np.zeros((SIZE, SIZE), dtype=bool)
    thin[50, 10:60] = True
    for points, polarity in clicks_of(target(thin), "few", 30):
        assert (polarity == 1).any()
        assert hits(points[polarity == 1], thin).all()


def test_negatives_mostly_lie_in_the_contrast() -> None:
    inside, contrast = disc(radius=20), disc(radius=40) & ~disc(radius=20)
    in_contrast = []
    for points, polarity in clicks_of(target(inside, contrast=contrast), "few", 300):
        in_contrast += hits(points[polarity == 0], contrast).tolist()
    # Eight sets in ten keep to it; the others fall anywhere outside, a quarter of it contrast by chance.
    assert 0.72 < np.mean(in_contrast) < 0.95


def test_without_a_contrast_there_are_only_positives() -> None:
    whole = np.ones((SIZE, SIZE), dtype=bool)
    for points, polarity in clicks_of(target(whole, "segment"), "few", 20):
        assert len(points) >= 1
        assert (polarity == 1).all()


@pytest.mark.parametrize("regime", REGIMES)
def test_the_same_generator_gives_the_same_clicks(regime: Regime) -> None:
    first, again = (draw_clicks(target(), regime, PATCH, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_targets_of_a_real_face(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    bank = load_faces(root, list_faces(root, "dev")[:1], SIZE)
    sample = draw_sample(bank, make_cutouts(), size=SIZE, seed=0, stage="t", index=1, occluded_share=1.0)
    kinds = {made.kind for made in face_targets(sample, 100, np.random.default_rng(0))}
    assert kinds == {"occluder", "visible_face", "part", "surround"}
