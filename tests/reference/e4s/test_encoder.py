import pytest
import torch
from torch.nn import functional

from s3pot.reference.e4s.encoder import RegionEncoder, ResidualUnit, SqueezeExcitation


def test_squeeze_excitation_weighs_channels_by_their_means() -> None:
    layer = SqueezeExcitation(2, reduction=2)
    layer.fc1.weight.data = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    layer.fc2.weight.data = torch.tensor([2.0, -1.0]).view(2, 1, 1, 1)
    features = torch.tensor([[4.0, 2.0], [1.0, 1.0]])[None, :, :, None]  # means 3 and 1, hence 2 in the middle
    weights = torch.sigmoid(torch.tensor([4.0, -2.0]))
    torch.testing.assert_close(layer(features)[0, :, :, 0], features[0, :, :, 0] * weights[:, None])


@pytest.mark.parametrize(("width_in", "stride"), [(32, 1), (32, 2), (16, 2)])
def test_residual_unit_follows_its_formula(width_in: int, stride: int) -> None:
    torch.manual_seed(0)
    unit = ResidualUnit(width_in, 32, stride)
    features = torch.randn(2, width_in, 9, 9)
    normalised = functional.instance_norm(features)
    inner = functional.prelu(
        functional.conv2d(normalised, unit.res_layer[1].weight, padding=1), torch.full((32,), 0.25)
    )
    inner = functional.instance_norm(functional.conv2d(inner, unit.res_layer[3].weight, stride=stride, padding=1))
    shortcut = features[:, :, ::stride, ::stride]
    if width_in != 32:
        shortcut = functional.instance_norm(functional.conv2d(shortcut, unit.shortcut_layer[0].weight))
    torch.testing.assert_close(unit(features), shortcut + unit.res_layer[5](inner))


def test_features_are_taken_after_the_last_unit_of_the_last_three_stages() -> None:
    torch.manual_seed(0)
    encoder = RegionEncoder(64, (1, 2, 2, 1)).eval()
    taken = encoder(torch.randn(2, 3, 64, 64))
    assert [tuple(features.shape) for features in taken] == [(2, 32, 16, 16), (2, 64, 8, 8), (2, 64, 4, 4)]
    torch.testing.assert_close(encoder.body[5](taken[1]), taken[2])
    torch.testing.assert_close(encoder.body[4](encoder.body[3](taken[0])), taken[1])
