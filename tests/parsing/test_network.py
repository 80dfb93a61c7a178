import pytest
import torch
from torch import Tensor, nn

from s3pot.parsing.network import FaceParser, parse_faces
from s3pot.resampling import resample


@pytest.fixture(scope="module")
def parser() -> FaceParser:
    torch.manual_seed(0)
    return FaceParser().eval().requires_grad_(False)


def pictures(batch: int, side: int = 64) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def without_group_norm() -> FaceParser:
    """Build a parser whose places are not coupled by the statistics of its norms."""
    torch.manual_seed(0)
    parser = FaceParser().eval().requires_grad_(False)
    for module in list(parser.modules()):
        if isinstance(module, nn.Sequential):
            for place, layer in enumerate(module):
                if isinstance(layer, nn.GroupNorm):
                    module[place] = nn.Identity()
    return parser


class Blind(nn.Module):
    """Stands in for the transformer and lets nothing of the deepest map through."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (256, 256), (64, 96)])
def test_logits_have_the_resolution_of_the_picture(parser: FaceParser, height: int, width: int) -> None:
    logits = parser(torch.rand(1, 3, height, width))
    assert logits.shape == (1, 12, height, width)
    assert torch.isfinite(logits).all()


def test_batch_equals_loop(parser: FaceParser) -> None:
    batch = pictures(3)
    alone = torch.cat([parser(batch[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(parser(batch), alone, rtol=1e-4, atol=1e-4)


def test_what_lies_under_a_hand_follows_from_the_rest_of_the_face() -> None:
    parser = without_group_norm()
    picture = pictures(1, 256)
    changed = picture.clone()
    changed[..., -16:, -16:] = 1.0

    def response() -> Tensor:
        return (parser(changed) - parser(picture)).abs().amax(dim=1)[0]

    assert response()[0, 0] > 0
    parser.context = nn.Identity()
    assert response()[0, 0] == 0, "convolutions alone do not reach that far"
    assert response()[-1, -1] > 0


def test_fine_detail_passes_the_skips() -> None:
    parser = without_group_norm()
    parser.context = Blind()
    picture = pictures(1, 256)
    changed = picture.clone()
    changed[..., 20, 41] = 1.0 - changed[..., 20, 41]
    response = (parser(changed) - parser(picture)).abs().sum(dim=1)[0]
    assert response[18:23, 39:44].min() > 0
    assert response[160:].max() == 0, "the skips are convolutions: a pixel reaches its surroundings only"


def test_the_finest_skip_starts_at_half_resolution() -> None:
    parser = without_group_norm()
    parser.stage4.append(Blind())  # nothing coarser passes
    picture = pictures(1)
    changed = picture.clone()
    changed[..., 20, 41] = 1.0 - changed[..., 20, 41]
    response = (parser(changed) - parser(picture)).abs().sum(dim=1)[0]
    assert response[20, 41] > 0
    assert response[:, :30].max() == 0


def test_parse_faces_takes_the_likeliest_class(parser: FaceParser) -> None:
    images = pictures(2)
    parsing = parse_faces(parser, images)
    assert parsing.dtype == torch.uint8
    assert torch.equal(parsing.long(), parser(images).argmax(dim=1))
    assert parsing.unique().numel() > 1, "one class everywhere would show nothing"


def test_a_large_picture_is_seen_at_the_size_of_training(parser: FaceParser) -> None:
    large = resample(pictures(1), (512, 512))
    expected = resample(parser(resample(large, (256, 256))), (512, 512)).argmax(dim=1)
    found = parse_faces(parser, large)
    assert found.shape == (1, 512, 512)
    assert torch.equal(found.long(), expected)
    assert found.unique().numel() > 1


def test_parse_faces_keeps_no_graph_but_training_does() -> None:
    torch.manual_seed(0)
    trainable = FaceParser()
    images = pictures(1)
    assert not parse_faces(trainable, images).requires_grad
    trainable(images).square().mean().backward()
    idle = [name for name, weight in trainable.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []
