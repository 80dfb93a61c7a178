import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.sam.sizes import build_sam


@pytest.fixture(scope="module")
def segmenter() -> SupervisedSegmenter:
    torch.manual_seed(0)
    return SupervisedSegmenter().eval()


class Fixed(SupervisedSegmenter):
    """Has given logits at half resolution for every picture, and keeps what it was asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.seen = logits, torch.empty(0)

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return self.logits.expand(len(image), -1, -1)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_it_has_the_size_of_nano_sam_and_its_encoder(segmenter: SupervisedSegmenter) -> None:
    nano = build_sam("nano")
    assert parameters(segmenter) == pytest.approx(parameters(nano), rel=0.02)
    assert parameters(segmenter.encoder) == parameters(nano.image_encoder)
    # What the docstring says.
    assert round(parameters(segmenter) / 1e6, 2) == 4.44
    assert round(parameters(nano) / 1e6, 2) == 4.47


@pytest.mark.parametrize("side", [64, 128, 256])
def test_logits_come_at_half_resolution(segmenter: SupervisedSegmenter, side: int) -> None:
    with torch.no_grad():
        logits = segmenter(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)))
    assert logits.shape == (2, side // 2, side // 2)
    assert torch.isfinite(logits).all()


def test_batch_equals_loop(segmenter: SupervisedSegmenter) -> None:
    batch = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone = torch.cat([segmenter(batch[row : row + 1]) for row in range(3)])
        torch.testing.assert_close(segmenter(batch), alone, rtol=1e-4, atol=1e-4)


def test_an_outline_of_one_pixel_reaches_the_logits(segmenter: SupervisedSegmenter) -> None:
    # The fine path: with the encoder silenced, the answer to one changed pixel stays within its surroundings.
    picture = torch.full((1, 3, 64, 64), 0.5)
    changed = picture.clone()
    changed[..., 32, 33] = 1.0
    quarter = segmenter.refine(segmenter.up4(segmenter.encoder(torch.zeros(1, 3, 64, 64))))
    wide = functional.interpolate(quarter, scale_factor=4.0)
    with torch.no_grad():
        answers = [
            segmenter.up2[0](torch.cat([wide, segmenter.fine[0]((p - 0.5) * 4)], dim=1)) for p in (picture, changed)
        ]
    response = (answers[1] - answers[0]).abs().sum(dim=1)[0]
    rows, cols = torch.nonzero(response > 0, as_tuple=True)
    assert {int(rows.min()), int(rows.max())} <= set(range(14, 19))
    assert {int(cols.min()), int(cols.max())} <= set(range(14, 19))


def test_predictions_lie_over_their_pictures() -> None:
    # Left half of the padded square occluded: logit 4 there, -4 elsewhere.
    logits = torch.full((1, 128, 128), -4.0)
    logits[..., :64] = 4.0
    model = Fixed(logits)
    tall, square = np.full((256, 200, 3), 255, np.uint8), np.zeros((256, 256, 3), np.uint8)
    found = model.predict([tall, square])
    assert [mask.shape for mask in found] == [(256, 200), (256, 256)]
    assert all(mask.dtype == np.float32 for mask in found)
    for mask in found:
        np.testing.assert_allclose(mask[:, :120], torch.tensor(4.0).sigmoid().item(), rtol=1e-5)
        np.testing.assert_allclose(mask[:, 136:], torch.tensor(-4.0).sigmoid().item(), rtol=1e-5)
        assert (mask[:, 127] > 0.5).all()
        assert (mask[:, 128] < 0.5).all()
    assert model.seen.shape == (2, 3, 256, 256)
    assert model.seen[0, :, :, :200].min() == 1.0, "pixels are given in [0, 1]"
    assert model.seen[0, :, :, 200:].max() == 0.0, "and padded at the right"


def test_a_picture_of_another_size_is_refused(segmenter: SupervisedSegmenter) -> None:
    with pytest.raises(ValueError, match=r"long side of 256, got \(128, 128, 3\)"):
        segmenter.predict([np.zeros((128, 128, 3), np.uint8)])


def test_no_pictures_give_no_masks() -> None:
    assert Fixed(torch.zeros(1, 128, 128)).predict([]) == []


def test_every_weight_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = SupervisedSegmenter()
    model(torch.rand(1, 3, 64, 64)).square().mean().backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []
