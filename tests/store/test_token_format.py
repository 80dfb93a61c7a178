import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3pot.store.token_format import pack, quantise, restore


def restored(tokens: Tensor) -> Tensor:
    values, scale, offset = quantise(tokens)
    return torch.stack([restore(*parts) for parts in zip(values, scale, offset, strict=True)])


def test_a_channel_by_hand() -> None:
    """From -1 to 1.55 in 255 steps of 0.01."""
    values, scale, offset = quantise(torch.tensor([[[[-1.0, 1.55], [0.0, 0.014]]]]))
    assert values.tolist() == [[[[-128, 127], [-28, -27]]]]
    assert scale.item() == pytest.approx(0.01)
    assert offset.item() == pytest.approx(0.28)
    assert restore(values[0], scale[0], offset[0])[0].tolist() == [
        [-1.0, pytest.approx(1.55, abs=1e-3)],
        [pytest.approx(0.0, abs=1e-3), pytest.approx(0.01, abs=1e-3)],
    ]


def test_no_value_is_off_by_more_than_half_a_step() -> None:
    tokens = torch.randn(3, 8, 5, 7) * torch.logspace(-3, 2, 8)[:, None, None]
    exact = tokens.double().numpy()
    step = (exact.max((2, 3)) - exact.min((2, 3))) / 255
    largest = np.abs(exact).max((2, 3))
    wrong = np.abs(restored(tokens).double().numpy() - exact).max((2, 3))
    assert (wrong <= 0.5 * step + largest * 2**-10).all()  # fp16 has 11 bits
    assert (wrong >= 0.3 * step).all()


def test_channels_and_images_do_not_share_their_range() -> None:
    tokens = torch.stack([torch.stack([torch.linspace(0, 1, 16), torch.linspace(0, 1000, 16)])] * 2).reshape(2, 2, 4, 4)
    tokens[1] *= 10
    assert torch.allclose(restored(tokens).float(), tokens, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 3.0, -0.125, 1e-7])
def test_a_channel_of_one_value_is_exact(value: float) -> None:
    tokens = torch.full((1, 2, 3, 3), value)
    assert torch.equal(restored(tokens), tokens.half())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-60000, 60000, width=16), min_size=4, max_size=4))
def test_what_fp16_holds_stays_finite(numbers: list[float]) -> None:
    tokens = torch.tensor(numbers, dtype=torch.float16).reshape(1, 1, 2, 2)
    found = restored(tokens)
    assert found.isfinite().all()
    assert (found.float() - tokens.float()).abs().max() <= 0.003 * 120000


def test_names_in_a_shard() -> None:
    tokens = torch.randn(2, 3, 4, 4)
    assert {name: (value.shape, value.dtype) for name, value in pack("image_tokens", tokens, "int8").items()} == {
        "image_tokens": ((2, 3, 4, 4), torch.int8),
        "image_tokens_scale": ((2, 3), torch.float32),
        "image_tokens_offset": ((2, 3), torch.float32),
    }
    [(name, value)] = pack("image_tokens", tokens, "fp16").items()
    assert name == "image_tokens"
    assert torch.equal(value, tokens.half())
