import numpy as np
import torch

from s3pot.reference.e4s.upfirdn import blur, fir_kernel, upsample


def convolve(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve in the mathematical sense, pixel by pixel, only where the kernel fits."""
    side = len(kernel)
    height, width = picture.shape[0] - side + 1, picture.shape[1] - side + 1
    flipped = kernel[::-1, ::-1]
    return np.array(
        [[(picture[y : y + side, x : x + side] * flipped).sum() for x in range(width)] for y in range(height)]
    )


def test_filter_is_the_outer_product_with_the_asked_sum() -> None:
    kernel = fir_kernel()
    assert kernel.sum() == 4
    torch.testing.assert_close(kernel * 16, torch.outer(*2 * [torch.tensor([1.0, 3.0, 3.0, 1.0])]))
    assert fir_kernel(1.0).sum() == 1


def test_blur_convolves_every_channel(rng: np.random.Generator) -> None:
    picture, kernel = rng.standard_normal((2, 5, 7)), rng.standard_normal((4, 4))  # a filter without symmetry
    expected = np.stack([convolve(np.pad(channel, 1), kernel) for channel in picture])
    got = blur(torch.from_numpy(picture)[None], torch.from_numpy(kernel), pad=1)
    assert got.shape == (1, 2, 4, 6)
    np.testing.assert_allclose(got[0].numpy(), expected, atol=1e-12)


def test_upsample_puts_zeros_between_the_pixels_and_blurs(rng: np.random.Generator) -> None:
    picture, kernel = rng.standard_normal((3, 4, 5)), rng.standard_normal((4, 4))
    spread = np.zeros((3, 8, 10))
    spread[:, ::2, ::2] = picture
    expected = np.stack([convolve(np.pad(channel, (2, 1)), kernel) for channel in spread])
    got = upsample(torch.from_numpy(picture)[None], torch.from_numpy(kernel))
    np.testing.assert_allclose(got[0].numpy(), expected, atol=1e-12)


def test_upsampling_keeps_the_brightness_inside() -> None:
    doubled = upsample(torch.ones(1, 1, 6, 6), fir_kernel())
    torch.testing.assert_close(doubled[..., 2:-2, 2:-2], torch.ones(1, 1, 8, 8))
