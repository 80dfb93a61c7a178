"""What each knob does to a picture, and what the presets hold."""

from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import pytest

from s3pot.composite.compositor import Composite, compose, compose_decoy
from s3pot.composite.difficulty import PRESETS, STANDARD, Difficulty
from tests.faces import draw_face, make_cutout

SIZE = 128
# Nothing drawn twice: what is left to chance is the place alone.
STILL = {"shadow_probability": 0.0, "edge_softness": (0.4, 0.4), "sharpness": (0.4, 0.4), "light": (1.0, 1.0)}


def made(kind: str, seed: int, color: tuple[int, int, int] = (20, 60, 220), **knobs: Any) -> Composite:
    image, parsing = draw_face(SIZE)
    cutout = make_cutout(kind, "thing", color, (120, 120))
    return compose(image, parsing, [cutout], np.random.default_rng(seed), Difficulty(**(STILL | knobs)))


def inside(composite: Composite) -> np.ndarray:
    return cv2.erode(composite.occluder.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0


def color_of(composite: Composite) -> np.ndarray:
    return composite.image[inside(composite)].mean(axis=0)


def test_skin_tint_moves_a_hand_from_its_own_colour_to_the_face_s() -> None:
    own, half, face = (made("hands", 3, skin_tint=(tint, tint)) for tint in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(color_of(own), (20, 60, 220), atol=2)
    np.testing.assert_allclose(color_of(face), face.clean[face.region].mean(axis=0), atol=2)
    np.testing.assert_allclose(color_of(half), (color_of(own) + color_of(face)) / 2, atol=2)


def test_light_scales_the_brightness_of_an_object() -> None:
    colors = [color_of(made("objects", 3, (100, 100, 100), light=(gain, gain))) for gain in (0.8, 1.0, 1.1)]
    np.testing.assert_allclose(colors[0] / colors[1], 0.8, rtol=0.02)
    np.testing.assert_allclose(colors[2] / colors[1], 1.1, rtol=0.02)


def test_shadows_come_as_often_and_are_as_dark_as_asked_for() -> None:
    def darkest(composite: Composite) -> float:
        around = ~(cv2.dilate(composite.occluder.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0)
        return float((composite.image[around].astype(float) - composite.clean[around]).min())

    assert all(darkest(made("objects", seed)) == 0.0 for seed in range(12))
    light = [darkest(made("objects", s, shadow_probability=1.0, shadow_strength=(0.1, 0.1))) for s in range(12)]
    dark = [darkest(made("objects", s, shadow_probability=1.0, shadow_strength=(0.9, 0.9))) for s in range(12)]
    assert max(light) < 0
    assert np.mean(dark) < 4 * np.mean(light)


def test_edge_softness_blurs_the_outline_and_leaves_the_truth() -> None:
    _, parsing = draw_face(SIZE)
    clean, cutout = np.full((SIZE, SIZE, 3), 200, np.uint8), make_cutout("objects", "black", (0, 0, 0), (120, 120))
    pictures = [
        compose(clean, parsing, [cutout], np.random.default_rng(3), Difficulty(**(STILL | {"edge_softness": (s, s)})))
        for s in (0.3, 2.0)
    ]
    assert np.array_equal(pictures[0].occluder, pictures[1].occluder)
    between = [((picture.image > 30) & (picture.image < 170)).sum() for picture in pictures]
    assert between[1] > 2 * between[0] > 0


def test_sharpness_blurs_what_the_occluder_shows() -> None:
    image, parsing = draw_face(SIZE)
    cutout = make_cutout("objects", "checked", size=(120, 120))
    cutout.rgba[..., :3] = 255 * ((np.arange(120)[:, None] // 8 + np.arange(120) // 8) % 2)[..., None]
    contrasts = []
    for factor in (0.2, 6.0):
        knobs = Difficulty(**(STILL | {"sharpness": (factor, factor)}))
        composite = compose(image, parsing, [cutout], np.random.default_rng(3), knobs)
        contrasts.append(composite.image[inside(composite)].astype(float).std())
    assert contrasts[1] < 0.7 * contrasts[0]


def test_the_covered_share_is_kept() -> None:
    for share in ((0.05, 0.15), (0.2, 0.4)):
        shares = [
            (composite.occlusion.sum() / composite.region.sum())
            for composite in (made("objects", seed, object_scale=(0.2, 0.9), covered_share=share) for seed in range(12))
        ]
        assert min(shares) >= share[0]
        assert max(shares) <= share[1]


def test_the_size_of_objects_is_kept() -> None:
    pictures = [made("objects", 5, object_scale=(scale, scale), covered_share=(0.0, 1.0)) for scale in (0.3, 0.6)]
    pixels = [picture.occluder.sum() for picture in pictures]
    assert pixels[1] / pixels[0] == pytest.approx(4.0, rel=0.05)


def test_a_decoy_has_the_same_edges_as_a_composite() -> None:
    image, parsing = draw_face(SIZE)
    donor = np.full_like(image, 128)
    donor[::2] = 90
    cutout = make_cutout("objects", size=(120, 120))
    steps = []
    for sigma in (0.3, 2.0):
        difficulty = Difficulty(edge_softness=(sigma, sigma), sharpness=(0.2, 0.2))
        decoy = compose_decoy(image, parsing, donor, cutout, np.random.default_rng(1), difficulty)
        steps.append(np.abs(decoy.image.astype(float) - image)[..., 0])
    assert (steps[1] > 0).sum() > (steps[0] > 0).sum(), "a softer seam reaches further"


def test_the_standard_preset_is_the_default() -> None:
    assert PRESETS["standard"] == Difficulty() == STANDARD
    assert set(PRESETS) == {"easy", "standard", "hard"}


def test_hands_are_harder_to_tell_from_skin_in_harder_presets() -> None:
    image, parsing = draw_face(SIZE)
    hand = make_cutout("hands", "palm", (90, 130, 60), (120, 80))
    contrast = {}
    for name, difficulty in PRESETS.items():
        pictures = [compose(image, parsing, [hand], np.random.default_rng(seed), difficulty) for seed in range(12)]
        skin = image[pictures[0].region].mean(axis=0)
        contrast[name] = np.mean([np.linalg.norm(color_of(picture) - skin) for picture in pictures])
    assert contrast["hard"] < 0.6 * contrast["standard"] < 0.6 * contrast["easy"]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"object_scale": (0.5, 0.3)}, r"object_scale must be \[low, high\], got \[0.5, 0.3\]"),
        ({"edge_softness": (0.0, 1.0)}, "edge_softness must be above 0"),
        ({"covered_share": (0.1, 1.2)}, r"covered_share must lie in \[0, 1\]"),
        ({"skin_tint": (-0.1, 0.5)}, r"skin_tint must lie in \[0, 1\]"),
        ({"shadow_probability": 1.5}, r"shadow_probability must lie in \[0, 1\]"),
        ({"occluders": (0, 1)}, "occluders must be at least 1"),
        ({"occluders": (2, 1)}, r"occluders must be \[low, high\]"),
    ],
)
def test_ranges_that_cannot_be(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Difficulty(**knobs)


def test_every_knob_is_explained() -> None:
    assert all(f"{field.name}: " in (Difficulty.__doc__ or "") for field in fields(Difficulty))
