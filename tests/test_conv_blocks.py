import pytest
import torch
from torch import Tensor
from torch.nn import functional

from s3pot.conv_blocks import ConvBlock, GridTransformer, conv_norm


def features(batch: int = 2, width: int = 16, rows: int = 6, cols: int = 6) -> Tensor:
    return torch.randn(batch, width, rows, cols, generator=torch.Generator().manual_seed(0))


def silence(layer: GridTransformer) -> GridTransformer:
    """Zero every output projection, so that each transformer layer passes its input on."""
    for block in layer.layers:
        for projection in (block.self_attn.out_proj, block.linear2):
            torch.nn.init.zeros_(projection.weight)
            torch.nn.init.zeros_(projection.bias)
    return layer


def test_a_block_that_adds_nothing_is_a_gelu() -> None:
    block = ConvBlock(16)
    torch.nn.init.zeros_(block.layers[-1].weight)  # the last norm's gain; its bias starts at 0
    torch.testing.assert_close(block(features()), functional.gelu(features()))


def test_a_block_keeps_its_shape_and_sees_two_pixels_far() -> None:
    torch.manual_seed(0)
    block = ConvBlock(16).eval()
    for norm in (block.layers[1], block.layers[4]):
        norm.forward = lambda x: x  # group norm couples all places by its statistics
    picture = features(1, rows=9, cols=9)
    changed = picture.clone()
    changed[..., 4, 4] += 1.0
    reached = (block(changed) - block(picture)).abs().sum(dim=1)[0] > 0
    assert block(picture).shape == picture.shape
    assert reached[2:7, 2:7].all()
    assert reached.sum() == 25


@pytest.mark.parametrize(("stride", "expected"), [(1, (6, 10)), (2, (3, 5))])
def test_conv_norm_halves_with_stride_two(stride: int, expected: tuple[int, int]) -> None:
    layer = conv_norm(16, 24, stride=stride)
    assert layer(features(cols=10)).shape == (2, 24, *expected)


def test_conv_norm_by_a_plain_reference() -> None:
    torch.manual_seed(0)
    layer = conv_norm(16, 8)
    convolved = functional.conv2d(features(), layer[0].weight, padding=1)
    grouped = convolved.reshape(2, 8, -1)  # 8 channels in 8 groups: every channel is normalised by itself
    normal = (grouped - grouped.mean(-1, keepdim=True)) / (grouped.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(features()), functional.gelu(normal.reshape_as(convolved)), rtol=1e-4, atol=1e-5)


def test_silent_layers_leave_features_and_position() -> None:
    layer = silence(GridTransformer(16, layers=2, grid=6))
    torch.testing.assert_close(layer(features()), features() + layer.position)


def test_the_position_grid_is_resized_to_other_maps() -> None:
    layer = silence(GridTransformer(16, layers=1, grid=4))
    with torch.no_grad():
        layer.position.copy_(torch.arange(4.0).expand(1, 16, 4, 4))  # grows with the column: 0, 1, 2, 3
    position = layer(torch.zeros(1, 16, 2, 2))
    # Half the resolution: each new column is the middle of two old ones.
    torch.testing.assert_close(position[0, 0], torch.tensor([[0.5, 2.5], [0.5, 2.5]]))


def test_grid_transformer_equals_its_layers_on_a_token_list() -> None:
    torch.manual_seed(0)
    layer = GridTransformer(16, layers=2, grid=3).eval()
    picture = features(1, rows=3, cols=3)
    tokens = torch.stack([(picture + layer.position)[0, :, row, col] for row in range(3) for col in range(3)])[None]
    with torch.no_grad():
        for block in layer.layers:
            tokens = block(tokens)
        found = layer(picture)
    for place in range(9):
        torch.testing.assert_close(found[0, :, place // 3, place % 3], tokens[0, place], rtol=1e-4, atol=1e-5)


def test_every_place_sees_every_place() -> None:
    torch.manual_seed(0)
    layer = GridTransformer(16, layers=1, grid=6).eval()
    changed = features(1)
    changed[:, :4, 0, 0] += 1.0  # not all channels alike: layer norm would take that away
    with torch.no_grad():
        difference = (layer(changed) - layer(features(1))).abs().amax(dim=1)
    assert difference.min() > 1e-5
