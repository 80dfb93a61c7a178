import torch

from s3pot.reference.e4s.layers import ModulatedConv


def test_scales_are_the_modulated_code_with_the_gain_of_the_weights() -> None:
    conv = ModulatedConv(2, 3, 3, code=1)
    conv.modulation.weight.data = torch.tensor([[2.0], [-1.0]])
    # a code of 3 gives 2 * 3 + 1 and -3 + 1, each over the root of 2 channels x 9 taps
    torch.testing.assert_close(conv.scales(torch.tensor([[3.0]])), torch.tensor([[7.0, -2.0]]) / 18**0.5)


def test_demodulation_is_the_inverse_length_of_the_scaled_weights() -> None:
    torch.manual_seed(0)
    conv = ModulatedConv(4, 3, 3, code=5)
    scales = conv.scales(torch.randn(2, 5))
    gains = conv.demodulation(scales)
    for region in range(2):
        scaled = conv.weight[0] * scales[region][:, None, None] * gains[region][:, None, None, None]
        torch.testing.assert_close(scaled.flatten(1).norm(dim=1), torch.ones(3))
