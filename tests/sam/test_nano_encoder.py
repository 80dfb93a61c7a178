import pytest
import torch
from torch import Tensor, nn

from s3pot.sam.nano_encoder import NanoImageEncoder


@pytest.fixture(scope="module")
def encoder() -> NanoImageEncoder:
    torch.manual_seed(0)
    return NanoImageEncoder().eval()


def without_group_norm(encoder: NanoImageEncoder) -> NanoImageEncoder:
    """Take away the norms, whose statistics couple all places of a map."""
    for module in list(encoder.modules()):
        if isinstance(module, nn.Sequential):
            for place, layer in enumerate(module):
                if isinstance(layer, nn.GroupNorm):
                    module[place] = nn.Identity()
    return encoder


def pictures(batch: int, side: int) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("side", [64, 128, 256])
def test_a_token_covers_eight_pixels_at_every_size(encoder: NanoImageEncoder, side: int) -> None:
    with torch.no_grad():
        tokens = encoder(pictures(1, side))
    assert tokens.shape == (1, 128, side // 8, side // 8)
    assert torch.isfinite(tokens).all()


def test_dimensions_follow_the_arguments() -> None:
    encoder = NanoImageEncoder(img_size=64, out_chans=32)
    assert encoder.img_size == 64
    assert encoder.context.position.shape[-2:] == (4, 4)
    with torch.no_grad():
        assert encoder(pictures(1, 64)).shape == (1, 32, 8, 8)


def test_batch_equals_loop(encoder: NanoImageEncoder) -> None:
    batch = pictures(3, 64)
    with torch.no_grad():
        together = encoder(batch)
        alone = torch.cat([encoder(batch[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_token_sees_the_opposite_corner_through_the_transformer() -> None:
    torch.manual_seed(0)
    encoder = without_group_norm(NanoImageEncoder(img_size=256).eval().requires_grad_(False))
    picture = pictures(1, 256)
    changed = picture.clone()
    changed[..., -16:, -16:] *= -1.0

    def response() -> Tensor:
        return (encoder(changed) - encoder(picture)).abs().amax(dim=1)[0]

    assert response()[0, 0] > 0
    encoder.context = nn.Identity()
    assert response()[0, 0] == 0, "convolutions alone do not reach that far"
    assert response()[-1, -1] > 0


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    encoder = NanoImageEncoder(img_size=64, out_chans=32)
    encoder(pictures(1, 64)).square().mean().backward()
    idle = [name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []
