import pytest
import torch
from torch import Tensor

from s3pot.reference.e4s.model import E4S
from s3pot.reference.e4s.references import generate_references_e4s


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def parsings(blobs: Tensor) -> Tensor:
    return torch.cat([blobs, blobs.flip(2)])


def everywhere(parsings: Tensor) -> Tensor:
    return torch.ones(parsings.shape, dtype=torch.bool)


def drawn_by_hand(model: E4S, image: Tensor, described: Tensor, target: Tensor) -> Tensor:
    """The network's own call, from [0, 1] to bytes by the definition of its range."""
    picture = model(image[None] * 2 - 1, described[None], target[None])[0].clamp(-1, 1)
    size = image.shape[-2:]  # 128 px are drawn
    fitted = torch.nn.functional.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]
    return ((fitted + 1) / 2 * 255).permute(1, 2, 0)


def assert_rounded(found: Tensor, expected: Tensor) -> None:
    assert (found.float() - expected).abs().max() <= 0.5 + 1e-2


def test_pictures_come_in_the_frame_and_range_of_the_chain(small_e4s: E4S, images: Tensor, parsings: Tensor) -> None:
    found = generate_references_e4s(small_e4s, images, parsings, parsings, everywhere(parsings))
    assert found.shape == (2, 64, 64, 3)
    assert found.dtype == torch.uint8
    for row in range(2):
        assert_rounded(found[row], drawn_by_hand(small_e4s, images[row], parsings[row], parsings[row]))


def test_at_its_own_size_nothing_is_resampled(small_e4s: E4S, parsings: Tensor) -> None:
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    labels = parsings[:1].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    found = generate_references_e4s(small_e4s, image, labels, labels, everywhere(labels))
    exact = (small_e4s(image * 2 - 1, labels, labels).clamp(-1, 1) + 1) * 127.5
    assert_rounded(found.permute(0, 3, 1, 2), exact)


def test_what_completion_relabelled_gives_no_style(small_e4s: E4S, images: Tensor, parsings: Tensor) -> None:
    """A part that was relabelled may show anything: the reference does not change."""
    seen = parsings.clone()
    seen[:, 20:30, 24:40] = 4
    valid = everywhere(parsings)
    # The encoder looks around, so styles are compared, which pool only what describes a region.
    described = torch.where(seen == parsings, parsings, torch.full_like(parsings, 255))
    expected = torch.stack([drawn_by_hand(small_e4s, *rows) for rows in zip(images, described, parsings, strict=True)])
    pooled_all = torch.stack([drawn_by_hand(small_e4s, *rows) for rows in zip(images, parsings, parsings, strict=True)])
    found = generate_references_e4s(small_e4s, images, seen, parsings, valid).float()
    assert_rounded(found, expected)
    assert (found - pooled_all).abs().mean() > 1


def test_padding_describes_nothing(small_e4s: E4S, images: Tensor, parsings: Tensor) -> None:
    valid = everywhere(parsings)
    valid[:, 48:] = False
    described = parsings.masked_fill(~valid, 255)
    found = generate_references_e4s(small_e4s, images, parsings, parsings, valid).float()
    expected = torch.stack([drawn_by_hand(small_e4s, *rows) for rows in zip(images, described, parsings, strict=True)])
    pooled_all = torch.stack([drawn_by_hand(small_e4s, *rows) for rows in zip(images, parsings, parsings, strict=True)])
    assert_rounded(found, expected)
    assert (found - pooled_all).abs().mean() > 1


def test_noise_belongs_to_the_picture_not_to_the_batch(small_e4s: E4S, images: Tensor, parsings: Tensor) -> None:
    def noise(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    valid = everywhere(parsings)
    both = generate_references_e4s(small_e4s, images, parsings, parsings, valid, noise(5, 6))
    alone = generate_references_e4s(small_e4s, images[1:], parsings[1:], parsings[1:], valid[1:], noise(6))
    stored = generate_references_e4s(small_e4s, images, parsings, parsings, valid)
    assert (both[1].int() - alone[0].int()).abs().max() <= 1
    assert (both.int() - stored.int()).abs().max() > 1
