from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from s3pot.alignment import crop_face
from s3pot.baselines.stored_face import StoredFace, aligned_picture, read_faces
from s3pot.images import encode_png, read_image, write_png
from s3pot.locator import LocatedFace
from s3pot.parsing.classes import face_mask
from s3pot.store.prompt_store import PromptStore, stored_parsing
from tests.stand_ins import drawn_prefix, textured_face


def faces_of(store: PromptStore) -> list[StoredFace]:
    rows: list[Any] = list(store.rows().itertuples(index=False))
    return read_faces(store, drawn_prefix().sam, rows)


def test_it_holds_what_the_chain_saw(drawn_store: PromptStore) -> None:
    faces = faces_of(drawn_store)
    assert [face.id for face in faces] == ["i0", "i1", "i2"]
    first = faces[0]
    np.testing.assert_array_equal(first.full_face, face_mask(stored_parsing(first.row)))
    np.testing.assert_array_equal(first.picture(), read_image(first.row.path))
    everything = [*first.row.occlusion_prompts, *first.row.face_prompts]
    assert first.face_ids.tolist() == sorted(everything)
    assert first.reference_tokens.dtype == torch.float32


def test_without_stored_tokens_the_reference_is_encoded_again(
    drawn_store: PromptStore, make_drawn_store: Callable[[bool], PromptStore]
) -> None:
    for kept, again in zip(faces_of(drawn_store), faces_of(make_drawn_store(False)), strict=True):
        similar = torch.nn.functional.cosine_similarity(kept.reference_tokens, again.reference_tokens, dim=0)
        assert similar.mean() > 0.95, "a JPEG of it, so nearly the same"
        assert not torch.equal(kept.reference_tokens, again.reference_tokens)


@pytest.mark.parametrize("roll", [0.0, 0.3, -1.2])
def test_a_crop_of_a_photograph_is_cut_again(tmp_path: Path, roll: float) -> None:
    photograph = cv2.resize(textured_face()[0], (500, 400))
    write_png(tmp_path / "p.png", photograph)
    crop = crop_face(photograph, LocatedFace(x=240.5, y=190.0, side=180.0, roll=roll), 64)
    row = SimpleNamespace(id="a", path=str(tmp_path / "p.png"), to_original=crop.to_original.ravel().tolist())
    row.parsing_png = encode_png(np.zeros((64, 64), dtype=np.uint8))
    difference = np.abs(aligned_picture(row).astype(int) - crop.image.astype(int))
    assert difference.max() <= 1


def test_a_mask_scores_the_share_of_the_face_that_it_marks(half_covered: StoredFace) -> None:
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, :24] = True  # a third of the face, and all beside it
    prediction = half_covered.prediction(mask)
    assert prediction.score == pytest.approx(1 / 3)
    assert prediction.probability.max() == 1.0
