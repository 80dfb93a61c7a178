import pytest
import torch
from torch import Tensor
from torch.nn import functional

from s3pot.reference.e4s import regional_conv as module
from s3pot.reference.e4s.regional_conv import regional_conv, regional_up_conv


def mosaic(height: int, width: int, regions: int) -> Tensor:
    """Draw labels in speckles and patches."""
    labels = torch.randint(0, regions, (height, width))
    labels[: height // 2, : width // 2] = 1
    return labels


def by_region(whole: list[Tensor], labels: Tensor) -> Tensor:
    """Take each pixel from the map of its region; maps (1, O, H, W) -> (H, W, O)."""
    return sum((part[0].permute(1, 2, 0) * (labels == region)[..., None] for region, part in enumerate(whole)))


@pytest.fixture(params=[64, 2**20], ids=["a few pixels at a time", "all at once"])
def _patch_values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATCH_VALUES_CPU", request.param)


@pytest.mark.usefixtures("_patch_values")
@pytest.mark.parametrize("side", [1, 3])
def test_convolution_equals_the_loop_over_regions(side: int) -> None:
    torch.manual_seed(0)
    features, weight, scales = torch.randn(7, 10, 5), torch.randn(6, 5, side, side), torch.randn(4, 5)
    labels = mosaic(7, 10, 3)  # region 3 is absent
    picture = features.permute(2, 0, 1)[None]
    whole = [functional.conv2d(picture * s[:, None, None], weight, padding=side // 2) for s in scales]
    torch.testing.assert_close(regional_conv(features, weight, scales, labels), by_region(whole, labels))


@pytest.mark.usefixtures("_patch_values")
@pytest.mark.parametrize("size", [(4, 4), (5, 8), (1, 2)])
def test_upsampling_equals_the_loop_over_regions(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    height, width = size
    features, weight, scales = torch.randn(height, width, 5), torch.randn(6, 5, 3, 3), torch.randn(4, 5)
    kernel = torch.randn(4, 4)  # a filter without symmetry
    labels = mosaic(2 * height, 2 * width, 3)
    picture = features.permute(2, 0, 1)[None]
    filters = kernel.flip((0, 1)).expand(6, 1, 4, 4)
    whole = [
        functional.conv2d(
            functional.conv_transpose2d(picture * s[:, None, None], weight.transpose(0, 1), stride=2),
            filters,
            padding=1,
            groups=6,
        )
        for s in scales
    ]
    result = regional_up_conv(features, weight, scales, labels, kernel)
    torch.testing.assert_close(result, by_region(whole, labels), atol=1e-5, rtol=1e-4)


def test_the_style_is_that_of_the_output_pixel() -> None:
    """Two pixels, a kernel that copies the left neighbour: the right one sees it in its own style, 10, not in 1."""
    features = torch.tensor([[[3.0], [0.0]]])
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 0] = 1.0
    result = regional_conv(features, weight, torch.tensor([[1.0], [10.0]]), torch.tensor([[0, 1]]))
    assert result.flatten().tolist() == [0.0, 30.0]


def test_an_absent_region_may_hold_anything() -> None:
    torch.manual_seed(0)
    features, weight, labels = torch.randn(4, 4, 3), torch.randn(2, 3, 3, 3), mosaic(8, 8, 2)
    scales = torch.cat([torch.randn(2, 3), torch.full((1, 3), float("nan"))])
    assert regional_conv(features, weight, scales, labels[::2, ::2]).isfinite().all()
    assert regional_up_conv(features, weight, scales, labels, torch.rand(4, 4)).isfinite().all()


def test_a_place_is_computed_for_the_regions_that_see_it() -> None:
    labels = torch.zeros(8, 8, dtype=torch.int64)
    labels[3, 5] = 1  # a blur of four places starting one before the pixel
    seen = module._seen_places(labels, 3)
    assert seen.shape == (3, 9, 9)
    assert seen[1].nonzero().tolist() == [[y, x] for y in range(2, 6) for x in range(4, 8)]
    assert seen[0].all()
    assert not seen[2].any()
