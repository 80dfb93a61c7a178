import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.case_panels import StoredCase
from analysis.feature_contrast import Contrast, ImageContrast
from analysis.figures.enhancement import (
    choose_examples,
    draw_examples,
    draw_precision_density,
    draw_similarity_densities,
)
from analysis.stage_pictures import panel_frame
from tests.faces import draw_face

TOKENS = 64


def contrast(face: float, occluded: float, precision: float, rng: np.random.Generator) -> Contrast:
    similarity = np.where(np.arange(TOKENS) < 32, face, occluded) + rng.normal(0, 0.02, TOKENS)
    ids = np.arange(TOKENS)
    return Contrast(
        similarity=np.clip(similarity, -1, 1).astype(np.float32),
        occlusion_prompts=ids[32:36],
        face_prompts=ids[:8],
        precision=precision,
    )


@pytest.fixture
def images(rng: np.random.Generator) -> list[ImageContrast]:
    """Ten occluded images of two kinds and two clean ones; FE moves the occluded tokens from 0.8 to 0.2."""
    occluded = np.arange(TOKENS) >= 32
    return [
        ImageContrast(
            id=f"{number:02d}",
            kind="clean" if number >= 10 else ("hands", "masks")[number % 2],
            occluded=occluded if number < 10 else np.zeros(TOKENS, dtype=bool),
            visible=~occluded,
            before=contrast(0.95, 0.8, 0.5 + number / 50 if number < 10 else math.nan, rng),
            after=contrast(0.9, 0.2, 0.9 - number / 50 if number < 10 else math.nan, rng),
        )
        for number in range(12)
    ]


def test_densities_peak_where_the_tokens_are(images: list[ImageContrast]) -> None:
    drawing = draw_similarity_densities(images)
    for axes, (face, occluded) in zip(drawing.figure.axes, ((0.95, 0.8), (0.9, 0.2)), strict=True):
        for line, expected in zip(axes.lines, (face, occluded), strict=True):
            places, height = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            assert places[height.argmax()] == pytest.approx(expected, abs=0.03)
            assert height.max() == pytest.approx(1.0)
    assert "after FE 0.90 and 0.20" in drawing.explanation
    assert "n = 12 images" in drawing.figure.get_supxlabel()
    assert "for show only" in drawing.figure.get_supxlabel()


def test_no_density_lies_beyond_the_ends(images: list[ImageContrast]) -> None:
    at_the_end = [
        replace(image, after=replace(image.after, precision=1.0 - place / 20)) for place, image in enumerate(images)
    ]
    axes = draw_precision_density(at_the_end).figure.axes[0]
    for line in axes.lines:
        places, height = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert (places.min(), places.max()) == (0.0, 1.0)
        assert np.trapezoid(height, places) == pytest.approx(1.0, abs=0.01), "mirrored, not cut off"


def test_precision_is_over_occluded_images(images: list[ImageContrast]) -> None:
    drawing = draw_precision_density(images)
    assert "mean precision 0.590 before and 0.810 after FE" in drawing.explanation
    assert "n = 10 occluded images" in drawing.figure.get_supxlabel()


def test_too_few_images_for_a_density_are_no_crash(images: list[ImageContrast]) -> None:
    drawing = draw_precision_density(images[:2])
    assert drawing.figure.axes[0].lines[:] == []


def test_examples_are_one_of_each_kind_and_show_faces(images: list[ImageContrast]) -> None:
    chosen = choose_examples(images)
    assert [image.kind for image in chosen] == ["hands", "masks"]
    assert [image.id for image in chosen] == [image.id for image in choose_examples(images)]
    picture, parsing = draw_face(64)
    frame = panel_frame((64, 64), np.eye(2, 3))
    cases = {
        image.id: StoredCase(
            row=None, frame=frame, photograph=np.zeros((320, 320, 3), np.uint8), parsing=parsing, reference=picture
        )
        for image in chosen[:1]
    } | {image.id: StoredCase(row=None) for image in chosen[1:]}
    drawing = draw_examples(chosen, cases)
    assert drawing.faces
    shown = [len(axes.images) for axes in drawing.figure.axes[:12]]
    assert shown == [1] * 6 + [0] * 6, "an image that cannot be read leaves its row empty"
