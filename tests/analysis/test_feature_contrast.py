from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.feature_contrast import ImageContrast, compare_features
from s3pot.images import encode_png, write_png
from s3pot.parsing.classes import CLASSES
from s3pot.sam.promptable import PromptableSam
from s3pot.store.errors import StoreError
from s3pot.store.prompt_store import PromptStore, create_empty
from s3pot.store.shards import write_shard
from tests.stand_ins import tiny_sam

SIZE, GRID = 64, 8
# Tokens of the face: rows 1 to 6, columns 1 to 6; the occluder covers rows 4 and below.
FACE = np.zeros((GRID, GRID), dtype=bool)
FACE[1:7, 1:7] = True
COVERED = FACE & (np.arange(GRID) >= 4)[:, None]


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return tiny_sam()


def tokens(seed: int) -> Tensor:
    return torch.randn(32, GRID, GRID, generator=torch.Generator().manual_seed(seed)).half()


def parsing_png() -> bytes:
    parsing = np.zeros((GRID, GRID), dtype=np.uint8)
    parsing[FACE] = CLASSES.index("skin")
    return encode_png(np.kron(parsing, np.ones((8, 8), dtype=np.uint8)))


def write_store(
    folder: Path, *, truth: str | None = "truth.png", keep: bool = True, upside_down: bool = False
) -> PromptStore:
    """Two images whose reference tokens differ under the occluder only."""
    store = create_empty(folder / "store", "feedc0de", {}, "fp16")
    covered = COVERED[::-1] if upside_down else COVERED
    mask = np.kron((np.arange(GRID) >= 4)[:, None] & np.ones((1, GRID), dtype=bool), np.ones((8, 8), dtype=bool))
    write_png(folder / "truth.png", (mask[::-1] if upside_down else mask).astype(np.uint8) * 255)
    images = [tokens(0), tokens(1)]
    references = [torch.where(torch.from_numpy(COVERED), tokens(2 + n), image) for n, image in enumerate(images)]
    named = {"image_tokens": images} | ({"reference_tokens": references} if keep else {})
    shard = write_shard(store.shards, ("a", "b"), named, "fp16")
    row = {"status": "ok", "shard": shard, "original_height": SIZE, "original_width": SIZE, "kind": "hands"}
    row |= {"to_original": [1.0, 0, 0, 0, 1, 0], "parsing_png": parsing_png(), "initial_prompt": 0}
    row |= {"occlusion_prompts": [], "face_prompts": [], "path": "x.png"}
    row |= {"truth_path": None if truth is None else str(folder / truth)}
    store.append([row | {"id": name, "row": number} for number, name in enumerate(("a", "b"))])
    assert covered.sum() == 18
    return store


def cosine(one: Tensor, other: Tensor) -> np.ndarray:
    a, b = (tensor.double().reshape(32, -1).numpy() for tensor in (one, other))
    return (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def test_similarity_before_and_after(tmp_path: Path, sam: PromptableSam) -> None:
    first, second = compare_features(write_store(tmp_path), sam)
    assert (first.id, second.id, first.kind) == ("a", "b", "hands")
    reference = torch.where(torch.from_numpy(COVERED), tokens(2), tokens(0))
    np.testing.assert_allclose(first.before.similarity, cosine(tokens(0), reference), atol=1e-5)
    assert (first.before.similarity[~COVERED.ravel()] > 0.9999).all()
    # The point is the most similar face token; of many that are as similar, the lowest id.
    inside = np.flatnonzero(FACE & ~COVERED)
    point = torch.tensor([inside[first.before.similarity[inside].argmax()]])
    with torch.no_grad():
        pair = [sam.enhance(one[None].float(), point)[0] for one in (tokens(0), reference)]
    np.testing.assert_allclose(first.after.similarity, cosine(*pair), atol=1e-4)
    assert not np.allclose(first.after.similarity, first.before.similarity, atol=0.01)


def test_the_truth_sorts_the_tokens_of_the_face(tmp_path: Path, sam: PromptableSam) -> None:
    first, _ = compare_features(write_store(tmp_path), sam)
    np.testing.assert_array_equal(first.occluded, COVERED.ravel())
    np.testing.assert_array_equal(first.visible, (FACE & ~COVERED).ravel())
    for contrast in (first.before, first.after):
        prompts = np.concatenate([contrast.occlusion_prompts, contrast.face_prompts])
        np.testing.assert_array_equal(np.sort(prompts), np.flatnonzero(FACE))
        assert contrast.precision == pytest.approx(COVERED.ravel()[contrast.occlusion_prompts].mean())


def test_the_truth_touches_nothing_else(tmp_path: Path, sam: PromptableSam) -> None:
    def both(upside_down: bool) -> list[ImageContrast]:
        return compare_features(write_store(tmp_path / f"{upside_down}", upside_down=upside_down), sam)

    for one, other in zip(both(False), both(True), strict=True):
        assert (one.occluded != other.occluded).any()
        for name in ("before", "after"):
            a, b = getattr(one, name), getattr(other, name)
            np.testing.assert_array_equal(a.similarity, b.similarity)
            np.testing.assert_array_equal(a.occlusion_prompts, b.occlusion_prompts)
            np.testing.assert_array_equal(a.face_prompts, b.face_prompts)


def test_a_store_without_reference_tokens(tmp_path: Path, sam: PromptableSam) -> None:
    with pytest.raises(StoreError, match=r"store: .*keep_reference_tokens=true, into a new folder"):
        compare_features(write_store(tmp_path, keep=False), sam)


def test_a_store_without_truth(tmp_path: Path, sam: PromptableSam) -> None:
    with pytest.raises(StoreError, match="no image with a known truth"):
        compare_features(write_store(tmp_path, truth=None), sam)


def test_a_truth_that_cannot_be_read_is_named(tmp_path: Path, sam: PromptableSam) -> None:
    with pytest.raises(OSError, match=r"gone\.png"):
        compare_features(write_store(tmp_path, truth="gone.png"), sam)
