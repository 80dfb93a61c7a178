"""A batch with a head for each image against each head by itself."""

import warnings

import pytest
import torch

from s3pot.head.head_per_image import HeadPerImage
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from tests.stand_ins import small_reweighter

COUNTS = (5, 0, 12, 1)


def heads_of(config: ReweighterConfig) -> list[PromptReweighter]:
    heads = []
    for seed in range(len(COUNTS)):
        torch.manual_seed(seed)
        head = PromptReweighter(config).train()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        heads.append(head)
    return heads


@pytest.fixture
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(len(COUNTS), max(COUNTS), 32, generator=torch.Generator().manual_seed(1))
    return embeddings, torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]


@pytest.mark.parametrize(
    "config",
    [
        ReweighterConfig(embed_dim=32, num_heads=2),
        ReweighterConfig(embed_dim=32, num_heads=4, num_layers=2),
        ReweighterConfig(embed_dim=32, variant="released"),
    ],
    ids=["residual", "two layers", "released"],
)
def test_every_image_meets_its_own_head_alone(
    config: ReweighterConfig, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Values and gradients, against one head after the other without any padding."""
    embeddings, valid = prompts
    heads, expected_heads = heads_of(config), heads_of(config)
    weights = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = HeadPerImage(heads)(embeddings, valid)
    (found * weights * valid[..., None]).sum().backward()
    for row, count in enumerate(COUNTS):
        expected = expected_heads[row](embeddings[row : row + 1, :count], valid[row : row + 1, :count])
        (expected * weights[row, :count]).sum().backward()
        torch.testing.assert_close(found[row, :count], expected[0], rtol=1e-4, atol=1e-5)
        for one, other in zip(heads[row].parameters(), expected_heads[row].parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_a_head_by_itself_is_itself_to_the_bit(prompts: tuple[torch.Tensor, torch.Tensor]) -> None:
    head = small_reweighter(trained_looking=True)
    embeddings, valid = (each[:1] for each in prompts)
    assert torch.equal(HeadPerImage([head])(embeddings, valid), head(embeddings, valid))


def test_no_prompts_in_the_whole_batch() -> None:
    none = torch.zeros(2, 0, 32), torch.zeros(2, 0, dtype=torch.bool)
    assert HeadPerImage([small_reweighter(seed=1), small_reweighter(seed=2)])(*none).shape == (2, 0, 32)


def test_heads_of_several_forms_are_refused() -> None:
    other = PromptReweighter(ReweighterConfig(embed_dim=32, num_heads=2, num_layers=2))
    with pytest.raises(ValueError, match="expected heads of one form, got 2 forms"):
        HeadPerImage([small_reweighter(), other])
    with pytest.raises(ValueError, match="got 0 forms"):
        HeadPerImage([])
