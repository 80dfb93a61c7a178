"""References compared with clean pictures by hand; prompts paired by hand."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from s3pot.ladder import LadderImage
from s3pot.scorecard.generator import (
    estimate_generator,
    inpaint,
    mean_face,
    measure_references,
    pair_prompts,
    ssim_map,
)


def test_a_picture_is_like_itself(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
    assert ssim_map(picture, picture) == pytest.approx(np.ones((32, 32)))


def test_ssim_of_two_flat_pictures_by_hand() -> None:
    # Without variance SSIM is its luminance term: (2ab + C1) / (a² + b² + C1), C1 = (0.01 * 255)².
    first, second = np.full((32, 32, 3), 50, dtype=np.uint8), np.full((32, 32, 3), 100, dtype=np.uint8)
    expected = (2 * 50 * 100 + 2.55**2) / (50**2 + 100**2 + 2.55**2)
    assert ssim_map(first, second) == pytest.approx(np.full((32, 32), expected))


def test_the_mean_face_is_the_mean() -> None:
    faces = [np.full((4, 4, 3), value, dtype=np.uint8) for value in (10, 20, 40)]
    assert (mean_face(iter(faces)) == 23).all()
    with pytest.raises(ValueError, match="at least one face"):
        mean_face([])


def test_inpainting_restores_a_flat_picture(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    assert entry.truth.occlusion is not None
    filled = inpaint(entry.image, entry.truth.occlusion)
    assert np.abs(filled.astype(int) - entry.clean.astype(int)).max() <= 5  # 195 before; OpenCV rounds down


def test_a_perfect_and_an_offset_reference(make_composite: Callable[..., LadderImage]) -> None:
    entries = [make_composite("a"), make_composite("clean", occluder=False), make_composite("b")]
    references = [entries[0].clean, entries[1].clean, entries[2].clean + np.uint8(20)]
    table = measure_references(entries, references, np.full((32, 32, 3), 80, dtype=np.uint8)).set_index("id")
    assert table.index.tolist() == ["a", "b"]
    for column in ("ssim_reference", "ssim_outside_face", "ssim_outside"):
        assert table.loc["a", column] == pytest.approx(1.0)
        assert table.loc["b", column] < 1.0
    assert table["l1_reference"].tolist() == pytest.approx([0.0, 20 / 255])
    # The occluder is (255, 0, 0) over (60, 60, 60), the mean face 80 everywhere.
    assert table["l1_occluded"].tolist() == pytest.approx([(195 + 60 + 60) / 3 / 255] * 2)
    assert table["l1_mean_face"].tolist() == pytest.approx([20 / 255] * 2)
    assert table["l1_inpainted"].tolist() == pytest.approx([0.0, 0.0], abs=1 / 255)


def test_errors_inside_do_not_count_outside(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    reference = entry.clean.copy()
    reference[0:4, 56:64] = 200  # the background, far from the face
    row = measure_references([entry], [reference]).iloc[0]
    assert row["ssim_outside"] < 1.0
    assert row["ssim_reference"] == pytest.approx(1.0)
    assert math.isnan(row["ssim_mean_face"])


def prompts(rung: str, name: str, precision: float, recall: float, truth: int = 9) -> dict[str, object]:
    known = {"rung": rung, "id": name, "kind": "hands", "face_id": name, "cutout_id": f"c{name}"}
    return known | {"truth_pixels": truth, "prompt_precision": precision, "prompt_recall": recall}


def test_losses_are_paired() -> None:
    ladder = pd.DataFrame(
        [
            prompts("chain", "a", 0.5, 0.5),
            prompts("chain", "b", math.nan, 0.0),
            prompts("chain", "clean", math.nan, math.nan, truth=0),
            prompts("clean_reference", "b", 0.9, 0.8),
            prompts("clean_reference", "a", 0.8, 0.4),
            prompts("clean_reference", "clean", math.nan, math.nan, truth=0),
        ]
    )
    table = pair_prompts(ladder).set_index("id")
    assert table.loc["a", "precision_loss"] == pytest.approx(0.3)
    assert table["recall_loss"].to_dict() == pytest.approx({"a": -0.1, "b": 0.8})
    assert math.isnan(table.loc["b", "precision_loss"])
    found = estimate_generator({"prompts": pair_prompts(ladder)})
    assert (found["generator/precision_loss"].mean, found["generator/precision_loss"].n) == (pytest.approx(0.3), 1)
    assert (found["generator/recall_loss"].mean, found["generator/recall_loss"].n) == (pytest.approx(0.35), 2)


def test_gains_are_positive_where_the_reference_is_better(make_composite: Callable[..., LadderImage]) -> None:
    entries = [make_composite("a"), make_composite("b")]
    found = estimate_generator({"references": measure_references(entries, [entry.clean for entry in entries])})
    assert found["generator/l1_over_occluded"].mean == pytest.approx(105 / 255)
    assert found["generator/ssim_over_occluded"].mean > 0
    assert found["generator/l1_over_inpainted"].mean == pytest.approx(0.0, abs=1 / 255)
    assert "generator/ssim_over_mean_face" not in found  # it was not given
