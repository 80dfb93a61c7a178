from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from s3pot.composite.compositor import (
    LEAST_TRUTH,
    Composite,
    compose,
    compose_covering,
    compose_decoy,
    unoccluded,
)
from s3pot.composite.cutouts import Cutout, list_cutouts, load_cutout
from s3pot.composite.difficulty import STANDARD
from s3pot.metrics.face_region import face_region
from s3pot.pretrain.faces import list_faces, load_faces
from tests.faces import draw_face, make_cutout, make_cutouts

SIZE = 128
MIN_SHARE, MAX_SHARE = STANDARD.covered_share
# A shadow is moved by up to 2.5 % of the side downwards, a few percent sideways, and blurred; nothing reaches further.
REACH = round(0.14 * SIZE)


def composite(cutouts: Sequence[Cutout], seed: int, size: int = SIZE) -> Composite:
    image, parsing = draw_face(size)
    return compose(image, parsing, cutouts, np.random.default_rng(seed))


def decoy(seed: int, cutout: Cutout | None = None) -> tuple[Composite, np.ndarray]:
    image, parsing = draw_face(SIZE)
    donor, _ = draw_face(SIZE, seed=7)
    noise = np.random.default_rng(seed).integers(-40, 40, donor.shape)
    donor = np.clip(donor + noise, 0, 255).astype(np.uint8)  # skin of another texture: equal colours leave no trace
    cutout = cutout or make_cutout("hands", "palm", size=(120, 80))
    return compose_decoy(image, parsing, donor, cutout, np.random.default_rng(seed)), image


def grown(where: np.ndarray, pixels: int) -> np.ndarray:
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate(where.astype(np.uint8), kernel) > 0


def shrunk(where: np.ndarray, pixels: int) -> np.ndarray:
    return ~grown(~where, pixels)


def uniform_hand(value: int) -> tuple[np.ndarray, np.ndarray, Cutout]:
    """A face of one colour and a hand of the same colour."""
    _, parsing = draw_face(SIZE)
    clean = np.full((SIZE, SIZE, 3), value, dtype=np.uint8)
    return clean, parsing, make_cutout("hands", "same", (value,) * 3, (160, 160))


# Of pictures made before the ranges became knobs: pixels of the occluder, mean, mean step to the next pixel, next draw.
KNOWN = {
    "hands": (1519, 111.414, 2.5307, 0.662843),
    "sunglasses": (1560, 99.619, 2.6941, 0.662843),
    "masks": (2588, 108.968, 2.6546, 0.275309),
    "objects": (527, 108.588, 3.0237, 0.511390),
    "scarves": (3618, 99.370, 2.6783, 0.275309),
    "hats": (15640, 76.338, 0.2977, 0.258141),
    "spectacles": (1560, 107.640, 2.7523, 0.662843),
    "hands objects": (2929, 108.600, 2.7194, 0.483625),
    "decoy": (0, 110.810, 2.7557, 0.368993),
}


@pytest.mark.parametrize("kinds", KNOWN)
def test_the_pictures_of_a_seed_stay_what_they_are(kinds: str) -> None:
    """Trainings resume and benchmarks are rendered again: neither draws nor their order may change by accident."""
    drawn = [*make_cutouts(), make_cutout("scarves"), make_cutout("hats", size=(200, 200))]
    cutouts = {cutout.kind: cutout for cutout in [*drawn, make_cutout("spectacles", size=(40, 120))]}
    image, parsing = draw_face(SIZE)
    rng = np.random.default_rng(11)
    if kinds == "decoy":
        made = compose_decoy(image, parsing, draw_face(SIZE, seed=7)[0], cutouts["hands"], rng)
    else:
        made = compose(image, parsing, [cutouts[kind] for kind in kinds.split()], rng)
    pixels, mean, step, draw = KNOWN[kinds]
    values = made.image.astype(float)
    # Sums, not hashes: the last bit of OpenCV's filters depends on the processor.
    assert made.occluder.sum() == pytest.approx(pixels, abs=2)
    assert values.mean() == pytest.approx(mean, abs=2e-3)
    assert np.abs(np.diff(values, axis=1)).mean() == pytest.approx(step, abs=1e-3)
    assert rng.random() == pytest.approx(draw, abs=1e-6), "as many draws as ever"


@pytest.mark.parametrize("cutout", make_cutouts(), ids=lambda cutout: cutout.kind)
def test_the_truth_is_exactly_the_occluder_inside_the_region(cutout: Cutout) -> None:
    image, parsing = draw_face(SIZE)
    for seed in range(5):
        made = composite([cutout], seed)
        assert np.array_equal(made.occlusion, made.occluder & face_region(parsing))
        assert np.array_equal(made.region, face_region(parsing))
        assert np.array_equal(made.clean, image)
        assert made.image.shape == image.shape
        assert made.image.dtype == np.uint8
        assert (made.kind, made.cutout_ids) == (cutout.kind, (cutout.id,))


def test_the_truth_agrees_with_the_picture() -> None:
    # A bright blue disc on a face that is nowhere blue: the truth can be read off the picture again.
    disc = make_cutout("objects", "disc", (0, 0, 255), (200, 200))
    for seed in range(8):
        made = composite([disc], seed)
        blue = made.image[..., 2].astype(int) - made.image[..., 0] > 100
        assert blue[shrunk(made.occluder, 2)].all()
        assert not blue[~grown(made.occluder, 2)].any()


def test_the_face_is_untouched_far_from_occluder_and_shadow() -> None:
    image, _ = draw_face(SIZE)
    for seed in range(10):
        made = composite([make_cutout("objects", "disc", (0, 0, 255))], seed)
        far = ~grown(made.occluder, REACH)
        assert far.mean() > 0.2
        assert np.array_equal(made.image[far], image[far])


def test_a_shadow_only_darkens_and_is_no_occlusion() -> None:
    shaded = 0
    for seed in range(20):
        made = composite([make_cutout("objects", "disc", (0, 0, 255))], seed)
        around = grown(made.occluder, REACH) & ~grown(made.occluder, 4)
        change = made.image[around].astype(int) - made.clean[around]
        assert change.max() <= 0
        shaded += change.min() < -5
    assert 2 <= shaded <= 14, "four in ten cast a shadow"


def test_the_inputs_are_not_written_to() -> None:
    image, parsing = draw_face(SIZE)
    cutout = make_cutout()
    before = image.copy(), parsing.copy(), cutout.rgba.copy()
    compose(image, parsing, [cutout], np.random.default_rng(0))
    compose_decoy(image, parsing, image, cutout, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(before, (image, parsing, cutout.rgba), strict=True))


def test_a_seed_gives_the_same_composite_and_another_seed_another() -> None:
    cutouts = make_cutouts()[:2]
    first, again, other = (composite(cutouts, seed) for seed in (4, 4, 5))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.occluder, again.occluder)
    assert not np.array_equal(first.occluder, other.occluder)
    assert np.array_equal(decoy(4)[0].image, decoy(4)[0].image)
    assert not np.array_equal(decoy(4)[0].image, decoy(5)[0].image)


@pytest.mark.parametrize("cutout", make_cutouts(), ids=lambda cutout: cutout.kind)
def test_an_occluder_covers_a_sensible_share_of_the_face(cutout: Cutout) -> None:
    for seed in range(25):
        made = composite([cutout], seed)
        share = made.occlusion.sum() / made.region.sum()
        assert MIN_SHARE <= share <= MAX_SHARE


def test_a_placement_that_covers_too_little_is_drawn_again() -> None:
    # A bar about half as long as the face covers 4 % of it in every second draw only.
    bar = make_cutout("objects", "bar", size=(100, 24))
    shares = [made.occlusion.sum() / made.region.sum() for made in (composite([bar], seed) for seed in range(25))]
    assert min(shares) >= MIN_SHARE


def test_an_occluder_that_cannot_cover_enough_is_laid_down_all_the_same() -> None:
    thread = make_cutout("objects", "thread", size=(3, 200))
    made = composite([thread], 0)
    assert made.occlusion.sum() < MIN_SHARE * made.region.sum()
    assert made.kind == "objects"


def test_several_cutouts_make_one_truth() -> None:
    red = make_cutout("objects", "red", (255, 0, 0), (100, 100))
    blue = make_cutout("objects", "blue", (0, 0, 255), (100, 100))
    seen = set()
    for seed in range(12):
        made = composite([red, blue], seed)
        assert made.cutout_ids == ("objects/red", "objects/blue")
        pixels = made.image.astype(int)
        difference = pixels[..., 0] - pixels[..., 2]
        is_red, is_blue = (difference > 150) & (pixels[..., 1] < 60), difference < -100
        inner = shrunk(made.occluder, 3)
        assert (is_red | is_blue)[inner & (pixels.max(axis=2) > 180)].mean() > 0.97
        assert not is_blue[~grown(made.occluder, 2)].any()
        seen |= {name for name, where in (("red", is_red), ("blue", is_blue)) if (where & inner).sum() > 20}
        assert np.array_equal(made.occlusion, made.occluder & made.region)
    assert seen == {"red", "blue"}


def test_several_cutouts_together_leave_some_of_the_face_visible() -> None:
    hands = [make_cutout("hands", name, size=(160, 160)) for name in ("left", "right")]
    shares = np.array([made.occlusion.sum() / made.region.sum() for made in (composite(hands, s) for s in range(40))])
    assert shares.min() >= MIN_SHARE
    assert np.mean(shares > MAX_SHARE) < 0.1, "twelve draws for each cut-out fail only now and then"


def test_an_occluder_of_the_colour_of_the_face_leaves_no_outline() -> None:
    # A dark or bright rim around every occluder, and around no decoy, would give occluders away.
    clean, parsing, hand = uniform_hand(200)
    for seed in range(20):
        made = compose(clean, parsing, [hand], np.random.default_rng(seed))
        change = made.image[..., 0].astype(int) - 200
        if change[~grown(made.occluder, 4)].any():
            continue  # a shadow, which may darken
        assert np.abs(change).max() <= 3, f"seed {seed}: a rim of {np.abs(change).max()} levels"


def test_a_hand_takes_on_the_colour_of_the_skin() -> None:
    made = composite([make_cutout("hands", "green", (0, 200, 0), (160, 160))], 3)
    inside = shrunk(made.occluder, 3)
    found, skin = made.image[inside].mean(axis=0), made.clean[made.region].mean(axis=0)
    assert np.linalg.norm(found - skin) < 0.85 * np.linalg.norm(np.array([0, 200, 0]) - skin)


def test_anything_else_follows_the_light_of_the_picture() -> None:
    image, parsing = draw_face(SIZE)
    cutout = make_cutout("objects", "grey", (120, 120, 120), (160, 160))
    dark = compose((image * 0.3).astype(np.uint8), parsing, [cutout], np.random.default_rng(1))
    bright = compose(image, parsing, [cutout], np.random.default_rng(1))
    inside = shrunk(dark.occluder, 3)
    assert np.array_equal(dark.occluder, bright.occluder)
    assert dark.image[inside].mean() < bright.image[inside].mean() - 20


def band(name: str, height: int) -> Cutout:
    """A hat's canvas with a strip along its upper border (which misses the face) or all the way down."""
    rgba = np.zeros((200, 200, 4), dtype=np.uint8)
    rgba[:height] = (20, 60, 220, 255)
    return Cutout(id=f"hats/{name}", kind="hats", rgba=rgba)


def test_an_occluder_that_misses_the_face_is_replaced() -> None:
    image, parsing = draw_face(SIZE)
    asked: list[int] = []

    def rng_of(attempt: int) -> np.random.Generator:
        asked.append(attempt)
        return np.random.default_rng(attempt)

    cap, strip = band("cap", 95), band("strip", 3)
    kept = compose_covering(image, parsing, [[cap], [strip]], rng_of)
    assert np.array_equal(kept.image, compose(image, parsing, [cap], np.random.default_rng(0)).image)
    assert asked == [0], "nothing else is tried when the first will do"
    changed = compose_covering(image, parsing, [[strip], [strip], [cap]], rng_of)
    assert changed.cutout_ids == ("hats/cap",)
    assert changed.occlusion.sum() >= LEAST_TRUTH * changed.region.sum()
    assert asked[1:] == [0, 1, 2, 3, 4]


def test_of_occluders_that_all_cover_too_little_the_largest_is_kept() -> None:
    image, parsing = draw_face(SIZE)
    choices = [[make_cutout("objects", "thread", size=(3, 200))], [band("strip", 3)]]
    kept = compose_covering(image, parsing, choices, np.random.default_rng)
    assert kept.kind == "objects"
    sizes = [compose(image, parsing, choices[0], np.random.default_rng(seed)).occlusion.sum() for seed in (0, 1)]
    assert 0 < kept.occlusion.sum() == max(sizes) < LEAST_TRUTH * kept.region.sum()
    with pytest.raises(ValueError, match="at least one choice"):
        compose_covering(image, parsing, [], np.random.default_rng)


def test_a_decoy_has_no_truth_and_is_its_own_clean_picture() -> None:
    made, image = decoy(0)
    assert not made.occluder.any()
    assert not made.occlusion.any()
    assert np.array_equal(made.clean, made.image)
    assert (made.kind, made.cutout_ids) == ("decoy", ())
    assert not np.array_equal(made.image, image), "there must be a seam to see"


@pytest.mark.parametrize("seed", range(5))
def test_a_decoy_stays_within_the_region(seed: int) -> None:
    made, image = decoy(seed)
    changed = (made.image != image).any(axis=2)
    assert changed.sum() > MIN_SHARE / 2 * made.region.sum()
    assert not changed[~grown(made.region, 4)].any()  # the edge is softened over at most 4 pixels


def test_a_decoy_takes_the_mean_colour_of_the_skin_it_covers() -> None:
    image, parsing = draw_face(SIZE)
    donor = np.full_like(image, (30, 200, 90))
    made = compose_decoy(image, parsing, donor, make_cutout("hands", "palm", size=(120, 80)), np.random.default_rng(2))
    changed = shrunk((made.image != image).any(axis=2), 3)
    assert changed.sum() > 50
    assert np.abs(made.image[changed].mean(axis=0) - image[changed].mean(axis=0)).max() < 12


def test_a_face_with_nothing_on_it_has_an_empty_truth() -> None:
    image, parsing = draw_face(SIZE)
    made = unoccluded(image, parsing)
    assert np.array_equal(made.image, image)
    assert np.array_equal(made.clean, image)
    assert np.array_equal(made.region, face_region(parsing))
    assert not made.occluder.any()
    assert not made.occlusion.any()
    assert (made.kind, made.cutout_ids) == ("clean", ())


def test_no_cutout_is_an_error() -> None:
    image, parsing = draw_face(SIZE)
    with pytest.raises(ValueError, match="at least one cut-out"):
        compose(image, parsing, [], np.random.default_rng(0))


def test_no_face_is_an_error() -> None:
    image, parsing = draw_face(SIZE)
    with pytest.raises(ValueError, match="no face region"):
        compose(image, np.zeros_like(parsing), [make_cutout()], np.random.default_rng(0))


def test_real_faces_and_cutouts_of_every_kind(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    faces = load_faces(root, list_faces(root, "dev")[:2], 128)
    first = {kind: path for kind, path in reversed(list_cutouts(shared_data / "occluders" / "train", "dev"))}
    for kind, path in first.items():
        made = compose(faces.images[0], faces.parsings[0], [load_cutout(kind, path)], np.random.default_rng(0))
        assert 0.01 < made.occlusion.sum() / made.region.sum() <= MAX_SHARE, kind
        inside = shrunk(made.occluder, 1)
        assert np.abs(made.image[inside].astype(int) - made.clean[inside]).mean() > 3, kind
