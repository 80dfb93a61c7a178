import pytest
import torch

from s3pot.head.records import PromptRecord, collate, occlusion_logits
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig, ReweighterVariant
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from tests.stand_ins import random_record, small_reweighter, tiny_sam


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return tiny_sam()


def record(occlusion: list[int], face: list[int], name: str = "a") -> PromptRecord:
    return PromptRecord(
        id=name,
        image_tokens=torch.full((2, 3, 3), 0.5, dtype=torch.float16),
        occlusion_prompts=torch.tensor(occlusion, dtype=torch.int64),
        face_prompts=torch.tensor(face, dtype=torch.int64),
    )


def test_collate_puts_occlusion_first_and_padding_last() -> None:
    batch = collate([record([5, 8], [1]), record([], [0, 2, 3, 7]), record([], [])])
    assert batch.prompt_ids.tolist() == [[5, 8, 1, 0], [0, 2, 3, 7], [0, 0, 0, 0]]
    assert batch.polarity.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.prompt_valid.tolist() == [[True, True, True, False], [True] * 4, [False] * 4]
    assert batch.image_tokens.shape == (3, 2, 3, 3)
    assert batch.image_tokens.dtype == torch.float32
    assert (batch.image_tokens == 0.5).all()


def test_collate_of_images_without_prompts() -> None:
    batch = collate([record([], []), record([], [])])
    assert batch.prompt_ids.shape == batch.polarity.shape == batch.prompt_valid.shape == (2, 0)
    assert batch.prompt_ids.dtype == torch.int64
    assert batch.prompt_valid.dtype == torch.bool


def test_nothing_to_collate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no records"):
        collate([])


@pytest.mark.parametrize("reweighted", [False, True])
def test_occlusion_logits_of_a_batch_equal_those_of_each_image(sam: PromptableSam, reweighted: bool) -> None:
    reweighter = small_reweighter(trained_looking=True).eval() if reweighted else None
    records = [random_record(*key) for key in (("a", 3, 9), ("b", 20, 30), ("c", 0, 1), ("d", 0, 0), ("e", 4, 0))]
    with torch.no_grad():
        together = occlusion_logits(sam, reweighter, collate(records))
        alone = [occlusion_logits(sam, reweighter, collate([each])) for each in records]
    assert together.shape == (5, 32, 32)
    assert together.std(dim=(1, 2)).min() > 1e-3, "constant masks would be equal whatever the code does"
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_an_untrained_reweighter_reproduces_the_mask_bit_for_bit(training: bool) -> None:
    sam = PromptableSam(build_sam("nano"))
    reweighter = PromptReweighter(ReweighterConfig(embed_dim=128)).train(training)
    batch = collate([random_record("a", 7, 150, sam), random_record("b", 80, 40, sam), random_record("c", 0, 0, sam)])
    with torch.no_grad():
        assert torch.equal(occlusion_logits(sam, reweighter, batch), occlusion_logits(sam, None, batch))


@pytest.mark.parametrize("variant", ["residual", "released"])
def test_a_reweighter_that_learned_something_changes_the_mask(sam: PromptableSam, variant: ReweighterVariant) -> None:
    torch.manual_seed(0)
    reweighter = PromptReweighter(ReweighterConfig(embed_dim=32, num_heads=2, variant=variant))
    with torch.no_grad():
        for parameter in reweighter.parameters():
            parameter.add_(0.3)
        batch = collate([random_record("a", 3, 9)])
        moved = occlusion_logits(sam, reweighter, batch) - occlusion_logits(sam, None, batch)
    assert moved.abs().max() > 1e-3


def test_polarity_reaches_the_decoder(sam: PromptableSam) -> None:
    given = random_record("a", 5, 9)
    swapped = PromptRecord(
        id="a",
        image_tokens=given.image_tokens,
        occlusion_prompts=given.face_prompts,
        face_prompts=given.occlusion_prompts,
    )
    with torch.no_grad():
        masks = [occlusion_logits(sam, None, collate([each])) for each in (given, swapped)]
    assert (masks[0] - masks[1]).abs().max() > 1e-4
