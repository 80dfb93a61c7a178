import torch
from torch import Tensor

from s3pot.reference.e4s.style_heads import EqualLinear, StyleHead, pool_regions, resize_labels


def test_equal_linear_scales_weights_by_their_number_and_rate() -> None:
    layer = EqualLinear(4, 1, rate=0.5)
    layer.weight.data.fill_(6.0)
    layer.bias.data.fill_(3.0)
    # 6 * 0.5 / sqrt(4) = 1.5 for each of the four ones, and a bias of 3 * 0.5
    torch.testing.assert_close(layer(torch.ones(1, 4)), torch.tensor([[7.5]]))


def test_a_style_head_gives_one_code_per_layer() -> None:
    torch.manual_seed(0)
    head = StyleHead(6, 4, 3)
    vectors = torch.randn(2, 6)
    hidden = vectors @ head.mlp[0].weight.T / 6**0.5
    hidden = torch.where(hidden < 0, 0.01 * hidden, hidden)
    codes = hidden @ head.mlp[2].weight.T / 4**0.5
    torch.testing.assert_close(head(vectors), codes.view(2, 3, 4))


def test_labels_are_resized_by_the_nearest_pixel_rounded_down() -> None:
    labels = torch.arange(36, dtype=torch.uint8).view(1, 6, 6)
    assert resize_labels(labels, (3, 2)).tolist() == [[[0, 3], [12, 15], [24, 27]]]
    assert resize_labels(labels[:, :1, :2], (2, 4)).tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]


def test_pooling_is_the_mean_over_each_regions_pixels(blobs: Tensor) -> None:
    torch.manual_seed(0)
    features = [torch.randn(1, 3, 32, 32), torch.randn(1, 2, 8, 8)]
    vectors = pool_regions(features, blobs, 5)
    assert vectors.shape == (1, 5, 5)
    for region in range(5):
        parts = []
        for feature in features:
            step = 64 // feature.shape[2]
            inside = feature[0][:, blobs[0, ::step, ::step] == region]
            parts.append(inside.mean(1) if inside.shape[1] else torch.zeros(len(inside)))
        torch.testing.assert_close(vectors[0, region], torch.cat(parts))
    assert vectors[0, 4].tolist() == [0.0] * 5, "a region without pixels has no look"


def test_pixels_marked_255_describe_no_region() -> None:
    feature = torch.tensor([[1.0, 2.0], [3.0, 100.0]])[None, None]
    labels = torch.tensor([[[0, 0], [1, 255]]], dtype=torch.uint8)
    assert pool_regions([feature], labels, 2).flatten().tolist() == [1.5, 3.0]
