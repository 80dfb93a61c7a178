import pytest
import torch
from torch import Tensor

from s3pot.reference.e4s.model import E4S
from s3pot.reference.e4s.synthesis import Scene
from tests.reference.e4s.literal import literal_generate


@pytest.fixture
def codes(small_e4s: E4S) -> Tensor:
    config = small_e4s.config
    return torch.randn(1, config.regions, config.layers, config.code, generator=torch.Generator().manual_seed(1))


def error(got: Tensor, expected: Tensor) -> float:
    """Largest difference in standard deviations of what was expected."""
    assert got.shape == expected.shape
    return float((got - expected).abs().max() / expected.std())


def test_it_equals_the_loop_that_convolves_once_per_region(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    expected = literal_generate(small_e4s.G, codes, blobs, small_e4s.config.regional_layers)
    assert expected.shape == (1, 3, 128, 128)
    assert error(small_e4s.G(codes, blobs), expected) < 1e-4


def test_labels_finer_than_the_picture_are_resized(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    fine = blobs.repeat_interleave(4, 1).repeat_interleave(4, 2)
    fine[:, 100:103, 50:75] = 3
    expected = literal_generate(small_e4s.G, codes, fine, small_e4s.config.regional_layers)
    assert error(small_e4s.G(codes, fine), expected) < 1e-4


def test_the_outlines_matter(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    assert error(small_e4s.G(codes, blobs.flip(1)), small_e4s.G(codes, blobs)) > 0.1


def test_a_batch_equals_its_pictures_one_by_one(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    both_codes, both_labels = torch.cat([codes, -codes]), torch.cat([blobs, blobs.flip(2)])
    single = [small_e4s.G(both_codes[row : row + 1], both_labels[row : row + 1]) for row in range(2)]
    assert torch.equal(small_e4s.G(both_codes, both_labels), torch.cat(single))


def test_the_style_of_an_absent_region_changes_nothing(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    other = codes.clone()
    other[:, 4] = torch.nan
    assert torch.equal(small_e4s.G(other, blobs), small_e4s.G(codes, blobs))
    other = codes.clone()
    other[:, 3] += 1.0
    assert error(small_e4s.G(other, blobs), small_e4s.G(codes, blobs)) > 0.1


def test_regions_may_trade_their_numbers(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    traded = blobs.clone()
    traded[blobs == 1], traded[blobs == 2] = 2, 1
    order = [0, 2, 1, 3, 4]
    assert error(small_e4s.G(codes[:, order], traded), small_e4s.G(codes, blobs)) < 1e-5


def test_finer_layers_take_the_style_of_region_0(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    other, first = codes.clone(), small_e4s.config.regional_layers
    other[:, 1:, first:] = torch.nan
    assert torch.equal(small_e4s.G(other, blobs), small_e4s.G(codes, blobs))
    other = codes.clone()
    other[:, 0, first:] += 1.0
    assert error(small_e4s.G(other, blobs), small_e4s.G(codes, blobs)) > 0.01


def test_stored_noise_repeats_and_fresh_noise_follows_its_generator(
    small_e4s: E4S, codes: Tensor, blobs: Tensor
) -> None:
    def drawn(seed: int) -> Tensor:
        return small_e4s.G(codes, blobs, torch.Generator().manual_seed(seed))

    fixed = small_e4s.G(codes, blobs)
    assert torch.equal(small_e4s.G(codes, blobs), fixed)
    assert torch.equal(drawn(1), drawn(1))
    assert error(drawn(1), fixed) > 0.1
    assert error(drawn(2), drawn(1)) > 0.1


def test_levels_make_the_picture(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    scene = Scene(codes=codes[0], labels=blobs[0])
    features, picture = small_e4s.G.draw_level(scene, 0)
    for level in range(1, 6):
        features, picture = small_e4s.G.draw_level(scene, level, features, picture)
        assert picture.shape == (1, 3, 4 * 2**level, 4 * 2**level)
    assert torch.equal(picture, small_e4s.G(codes, blobs))


def test_a_label_without_style_is_an_error(small_e4s: E4S, codes: Tensor, blobs: Tensor) -> None:
    blobs[0, 0, 0] = 255
    with pytest.raises(ValueError, match="label 255 has no style code: there are 5 regions"):
        small_e4s.G(codes, blobs)
