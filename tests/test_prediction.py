import numpy as np
import pytest
import torch

from s3pot.head.records import PromptRecord
from s3pot.prediction import OcclusionPrediction, predict_occlusion
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from tests.stand_ins import random_record, small_reweighter, tiny_sam

FACE = np.zeros((256, 256), bool)
FACE[60:200, 70:190] = True


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return tiny_sam()


def records() -> list[PromptRecord]:
    return [random_record("a", 3, 9), random_record("b", 20, 30), random_record("c", 4, 0)]


def assert_same(one: OcclusionPrediction, other: OcclusionPrediction) -> None:
    np.testing.assert_array_equal(one.probability, other.probability)
    np.testing.assert_array_equal(one.occlusion, other.occlusion)
    assert one.score == other.score


def test_frames_and_types(sam: PromptableSam) -> None:
    for prediction in predict_occlusion(sam, small_reweighter(), records(), [FACE] * 3):
        assert prediction.probability.shape == prediction.occlusion.shape == (256, 256)
        assert prediction.probability.min() >= 0
        assert prediction.probability.max() <= 1
        assert prediction.probability.std() > 1e-3
        np.testing.assert_array_equal(prediction.occlusion, prediction.probability > 0.5)


class TestWithoutOcclusionPrompts:
    def test_nothing_is_found_even_where_a_decoder_would_find_something(self, sam: PromptableSam) -> None:
        for empty in (random_record("x", 0, 12), random_record("x", 0, 0)):
            [prediction] = predict_occlusion(sam, None, [empty], [FACE])
            assert not prediction.occlusion.any()
            assert (prediction.probability == 0).all()
            assert prediction.score == 0.0

    def test_the_others_of_the_batch_are_what_they_were(self, sam: PromptableSam) -> None:
        a, b, c = records()
        alone = predict_occlusion(sam, None, [a, b, c], [FACE] * 3)
        mixed = [random_record("x", 0, 60), a, b, random_record("y", 0, 0), c]
        beside = predict_occlusion(sam, None, mixed, [FACE] * 5)
        for one, other in zip(alone, [beside[1], beside[2], beside[4]], strict=True):
            assert_same(one, other)
        assert beside[0].score == beside[3].score == 0.0

    def test_no_images_at_all(self, sam: PromptableSam) -> None:
        assert predict_occlusion(sam, None, [], []) == []


def test_equals_stock_segment_anything() -> None:
    """One image through the stock prompt encoder, decoder and `postprocess_masks`, from points in pixels."""
    stock = build_sam("nano", seed=3)
    sam = PromptableSam(stock)
    record = random_record("a", 12, 40, sam)
    face = np.zeros((200, 256), bool)
    [prediction] = predict_occlusion(sam, None, [record], [face])
    ids = torch.cat([record.occlusion_prompts, record.face_prompts])
    points_xy = torch.stack([ids % 32, ids // 32], dim=-1)[None] * 8 + 3.5
    labels = torch.tensor([[1] * 12 + [0] * 40])
    with torch.no_grad():
        sparse, dense = stock.prompt_encoder(points=(points_xy, labels), boxes=None, masks=None)
        low, _ = stock.mask_decoder(
            image_embeddings=record.image_tokens[None].float(),
            image_pe=stock.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        expected = stock.postprocess_masks(low, (200, 256), (200, 256))[0, 0]
    np.testing.assert_allclose(prediction.probability, expected.sigmoid().numpy(), atol=1e-5)
    clear = expected.abs().numpy() > 1e-4
    np.testing.assert_array_equal(prediction.occlusion[clear], expected.numpy()[clear] > 0)


def test_untrained_reweighter_changes_nothing(sam: PromptableSam) -> None:
    without = predict_occlusion(sam, None, records(), [FACE] * 3)
    with_it = predict_occlusion(sam, small_reweighter(), records(), [FACE] * 3)
    trained = predict_occlusion(sam, small_reweighter(trained_looking=True), records(), [FACE] * 3)
    for one, same, moved in zip(without, with_it, trained, strict=True):
        assert_same(one, same)
        assert np.abs(moved.probability - one.probability).max() > 1e-3


def test_a_batch_of_several_frames_equals_single_images(sam: PromptableSam) -> None:
    masks = [FACE, FACE[:200].copy(), FACE[:, :100].copy()]
    together = predict_occlusion(sam, None, records(), masks)
    for record, mask, prediction in zip(records(), masks, together, strict=True):
        [alone] = predict_occlusion(sam, None, [record], [mask])
        assert prediction.probability.shape == mask.shape
        np.testing.assert_allclose(prediction.probability, alone.probability, atol=1e-5)


class TestScore:
    def test_is_the_probability_summed_over_the_occluded_face(self, sam: PromptableSam) -> None:
        for prediction in predict_occlusion(sam, None, records(), [FACE] * 3):
            expected = sum(p for p in prediction.probability[FACE] if p > 0.5) / FACE.sum()
            assert prediction.score == pytest.approx(float(expected), rel=1e-4)
            assert 0 <= prediction.score <= 1

    def test_without_a_face_it_is_0(self, sam: PromptableSam) -> None:
        [prediction] = predict_occlusion(sam, None, records()[:1], [np.zeros((256, 256), bool)])
        assert prediction.score == 0.0


@pytest.mark.parametrize("masks", [[], [FACE] * 2, [FACE] * 4])
def test_one_face_mask_per_record(sam: PromptableSam, masks: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="argument 2"):
        predict_occlusion(sam, None, records(), masks)
