import pytest
import torch
from torch import Tensor, nn

from s3pot.reference.generator import DetailGate, ReferenceGenerator, generate_references, one_hot_parsing
from s3pot.resampling import resample


class Blind(nn.Module):
    """Stands in for the last stage of the encoder and sees nothing: the same map for every picture."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.new_full((inputs.shape[0], 192, inputs.shape[2] // 2, inputs.shape[3] // 2), 0.1)


@pytest.fixture
def generator() -> ReferenceGenerator:
    torch.manual_seed(0)
    return ReferenceGenerator().eval().requires_grad_(False)


def pictures(batch: int, side: int = 64, seed: int = 1) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def parsings(batch: int, side: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 12, (batch, side, side), generator=generator, dtype=torch.uint8)


def test_one_hot_by_hand() -> None:
    one_hot = one_hot_parsing(torch.tensor([[[0, 11], [6, 6]]], dtype=torch.uint8))
    assert one_hot.shape == (1, 12, 2, 2)
    assert one_hot.dtype == torch.float32
    assert one_hot[0, 0].tolist() == [[1, 0], [0, 0]]
    assert one_hot[0, 11].tolist() == [[0, 1], [0, 0]]
    assert one_hot[0, 6].tolist() == [[0, 0], [1, 1]]
    assert one_hot.sum() == 4


@pytest.mark.parametrize("side", [64, 128, 256])
def test_a_reference_is_a_picture_of_the_same_size(generator: ReferenceGenerator, side: int) -> None:
    reference = generator(pictures(1, side), one_hot_parsing(parsings(1, side)))
    assert reference.shape == (1, 3, side, side)
    assert reference.min() >= 0.0
    assert reference.max() <= 1.0


def test_batch_equals_loop(generator: ReferenceGenerator) -> None:
    images, parsing = pictures(3), one_hot_parsing(parsings(3))
    alone = torch.cat([generator(images[row : row + 1], parsing[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(generator(images, parsing), alone, rtol=1e-4, atol=1e-5)


def close_gates(generator: ReferenceGenerator) -> None:
    for gate in generator.gates:
        assert isinstance(gate, DetailGate)
        gate.compare[-1].bias.fill_(-1e4)


def test_nothing_of_the_picture_passes_beside_the_narrow_map_and_the_gates(generator: ReferenceGenerator) -> None:
    parsing = one_hot_parsing(parsings(1))
    images = (pictures(1), pictures(1, seed=5))
    narrow, generator.stage16 = generator.stage16, Blind()
    assert not torch.equal(generator(images[0], parsing), generator(images[1], parsing)), "through the gates"
    close_gates(generator)
    assert torch.equal(generator(images[0], parsing), generator(images[1], parsing))
    generator.stage16 = narrow
    assert not torch.equal(generator(images[0], parsing), generator(images[1], parsing)), "through the narrow map"


def test_the_narrow_map_is_sixteen_times_smaller(generator: ReferenceGenerator) -> None:
    seen: list[Tensor] = []
    generator.context.register_forward_hook(lambda module, inputs, output: seen.append(output))
    generator(pictures(1), one_hot_parsing(parsings(1)))
    assert seen[0].shape == (1, 192, 4, 4)


def test_a_gate_lets_through_a_share_of_the_detail_and_no_more_than_a_coarser_one() -> None:
    torch.manual_seed(0)
    gate = DetailGate(drawn=6, encoded=5, detail=4).eval().requires_grad_(False)
    drawing, features = torch.randn(2, 6, 8, 8), torch.randn(2, 5, 8, 8)
    let_through, opened = gate(drawing, features, None)
    assert let_through.shape == (2, 4, 8, 8)
    assert opened.shape == (2, 1, 8, 8)
    assert 0.0 < opened.min() < opened.max() < 1.0
    torch.testing.assert_close(let_through, opened * gate.detail(features))
    coarser = torch.zeros(2, 1, 8, 8)
    coarser[..., :4] = 0.5
    let_through, limited = gate(drawing, features, coarser)
    torch.testing.assert_close(limited[..., :4], 0.5 * opened[..., :4])
    assert let_through[..., 4:].abs().max() == 0.0


def test_the_parsing_draws_outlines_at_full_resolution(generator: ReferenceGenerator) -> None:
    generator.stage16 = Blind()
    close_gates(generator)
    parsing = torch.full((1, 64, 64), 6, dtype=torch.uint8)
    changed = parsing.clone()
    changed[0, 32, 33] = 4
    image = pictures(1)
    difference = generator(image, one_hot_parsing(changed)) - generator(image, one_hot_parsing(parsing))
    response = difference.abs().sum(dim=1)[0]
    # Three 3x3 convolutions at half resolution follow the finest parsing; coarser scales answer more faintly.
    row, col = divmod(int(response.argmax()), 64)
    assert abs(row - 32) <= 6
    assert abs(col - 33) <= 6
    assert response[row, col] > 3 * response.mean()


def test_an_outline_within_two_pixels_is_seen(generator: ReferenceGenerator) -> None:
    # Two classes change places within a block of 2 x 2: pooled to any coarser scale the parsings are the same.
    generator.stage16 = Blind()
    close_gates(generator)
    parsing = torch.full((1, 64, 64), 6, dtype=torch.uint8)
    parsing[0, 32, 32:34] = torch.tensor([4, 6])
    swapped = parsing.clone()
    swapped[0, 32, 32:34] = torch.tensor([6, 4])
    image = pictures(1)
    difference = generator(image, one_hot_parsing(swapped)) - generator(image, one_hot_parsing(parsing))
    assert difference.abs().max() > 1e-3


def test_references_are_rounded_not_cut(generator: ReferenceGenerator) -> None:
    images, parsing = pictures(2), parsings(2)
    references = generate_references(generator, images, parsing)
    exact = generator(images, one_hot_parsing(parsing)).permute(0, 2, 3, 1) * 255.0
    assert references.dtype == torch.uint8
    assert references.shape == (2, 64, 64, 3)
    assert (references.float() - exact).abs().max() <= 0.5 + 1e-3


def test_a_large_picture_is_redrawn_at_the_size_of_training(generator: ReferenceGenerator) -> None:
    large = resample(pictures(1), (512, 512))
    labels = parsings(1).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    drawn = generator(resample(large, (256, 256)), resample(one_hot_parsing(labels), (256, 256)))
    found = generate_references(generator, large, labels)
    assert found.shape == (1, 512, 512, 3)
    assert (found.permute(0, 3, 1, 2).float() - resample(drawn, (512, 512)) * 255.0).abs().max() <= 0.5 + 1e-2


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    generator = ReferenceGenerator()
    (generator(pictures(1), one_hot_parsing(parsings(1))) - pictures(1, seed=3)).abs().mean().backward()
    idle = [name for name, weight in generator.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []
