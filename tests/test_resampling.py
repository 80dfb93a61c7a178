import numpy as np
import pytest
import torch
from PIL import Image

from s3pot.resampling import resample


@pytest.mark.parametrize("size", [(17, 23), (64, 64), (100, 30), (40, 50)])
def test_is_pillows_bilinear_filter(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    found = resample(torch.from_numpy(picture)[None, None], size)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_same_size_is_the_same_tensor() -> None:
    maps = torch.rand(2, 3, 8, 9)
    assert resample(maps, (8, 9)) is maps
