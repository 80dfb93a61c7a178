from typing import Any

import pytest
import torch
from torch import Tensor

from s3pot.head.reweighter import PromptReweighter, ReweighterConfig, ReweighterVariant

VARIANTS: tuple[ReweighterVariant, ...] = ("residual", "released")


def trained_looking(variant: ReweighterVariant, num_layers: int = 1) -> PromptReweighter:
    """A small reweighter in which no weight is zero."""
    torch.manual_seed(0)
    module = PromptReweighter(ReweighterConfig(embed_dim=16, variant=variant, num_layers=num_layers))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def batch(*lengths: int, width: int = 16) -> tuple[Tensor, Tensor]:
    """Prompt sets of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(len(lengths), max(lengths), width, generator=generator)
    return embeddings, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_untrained_residual_is_the_identity(num_layers: int, training: bool) -> None:
    module = PromptReweighter(ReweighterConfig(num_layers=num_layers)).train(training)
    embeddings, valid = batch(1, 7, 300, 0, width=256)
    assert torch.equal(module(embeddings, valid), embeddings)
    with torch.inference_mode():
        assert torch.equal(module(embeddings, valid), embeddings)


def test_released_form_has_the_published_size() -> None:
    module = PromptReweighter(ReweighterConfig(variant="released"))
    assert sum(p.numel() for p in module.parameters()) == 263_680
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_attention_written_out(variant: ReweighterVariant) -> None:
    module = trained_looking(variant)
    layer: Any = module.layers[0]
    embeddings, valid = batch(5)
    x = embeddings[0]
    source = layer.norm(x) if variant == "residual" else x
    q, k, v = (source @ layer.attention.in_proj_weight.T + layer.attention.in_proj_bias).split(16, dim=1)
    heads = [
        torch.softmax(q[:, part] @ k[:, part].T / 2, dim=1) @ v[:, part]  # 4 heads of width 4: scale 1 / sqrt(4)
        for part in (slice(i, i + 4) for i in range(0, 16, 4))
    ]
    moved = x + torch.cat(heads, dim=1) @ layer.attention.out_proj.weight.T + layer.attention.out_proj.bias
    expected = moved if variant == "residual" else layer.norm(moved)
    torch.testing.assert_close(module(embeddings, valid)[0], expected)


@pytest.mark.parametrize("variant", VARIANTS)
class TestPadding:
    def test_padding_rows_come_back_unchanged(self, variant: ReweighterVariant) -> None:
        embeddings, valid = batch(2, 5)
        reweighted = trained_looking(variant)(embeddings, valid)
        assert torch.equal(reweighted[~valid], embeddings[~valid])
        assert not torch.isclose(reweighted[valid], embeddings[valid]).all(dim=1).any()

    @pytest.mark.parametrize("value", [0.0, 1e30, float("nan"), float("inf")])
    def test_what_padding_holds_does_not_matter(self, variant: ReweighterVariant, value: float) -> None:
        module = trained_looking(variant, num_layers=2)
        embeddings, valid = batch(2, 5)
        spoilt = embeddings.masked_fill(~valid[:, :, None], value)
        assert torch.equal(module(spoilt, valid)[valid], module(embeddings, valid)[valid])

    @pytest.mark.parametrize("training", [True, False])
    def test_batch_equals_loop(self, variant: ReweighterVariant, training: bool) -> None:
        module = trained_looking(variant, num_layers=2).train(training)
        lengths = (1, 7, 300, 0)
        embeddings, valid = batch(*lengths)
        with torch.set_grad_enabled(training):
            together = module(embeddings, valid)
            for i, length in enumerate(lengths):
                part = slice(i, i + 1)
                alone = module(embeddings[part, :length], valid[part, :length])
                torch.testing.assert_close(together[part, :length], alone, atol=1e-5, rtol=1e-5)

    def test_gradients_ignore_padding(self, variant: ReweighterVariant) -> None:
        module = trained_looking(variant)
        embeddings, valid = batch(2, 5, 0)
        embeddings.requires_grad_()
        (module(embeddings, valid) * valid[:, :, None]).sum().square().backward()
        assert embeddings.grad is not None
        assert (embeddings.grad[~valid] == 0).all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())

    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_no_prompts_at_all(self, variant: ReweighterVariant, batch_size: int) -> None:
        module = trained_looking(variant)
        reweighted = module(torch.zeros(batch_size, 0, 16), torch.zeros(batch_size, 0, dtype=torch.bool))
        assert reweighted.shape == (batch_size, 0, 16)
        reweighted.sum().backward()  # DDP waits for the gradient of every parameter, also from a batch of empty images
        assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_of_prompts_does_not_matter(variant: ReweighterVariant) -> None:
    module = trained_looking(variant)
    embeddings, valid = batch(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(module(embeddings[:, order], valid), module(embeddings, valid)[:, order])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_parameter_after_one_step(variant: ReweighterVariant) -> None:
    torch.manual_seed(0)
    module = PromptReweighter(ReweighterConfig(embed_dim=16, variant=variant, num_layers=2))
    embeddings, valid = batch(3, 8)
    goal = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(2):  # a zero output projection passes no gradient on before the first step
        optimizer.zero_grad()
        (module(embeddings, valid) - goal)[valid].square().mean().backward()
        optimizer.step()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize(
    ("field", "value"), [("num_heads", 3), ("num_heads", 0), ("num_layers", 0), ("embed_dim", 0), ("variant", "gated")]
)
def test_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(Exception, match=field):
        ReweighterConfig(**{field: value})
