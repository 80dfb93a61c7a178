from typing import get_args

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from s3pot.sam.sizes import SAM_SIZES, SamName, build_sam


def test_the_table_names_every_size() -> None:
    assert set(SAM_SIZES) == set(get_args(SamName)) == {"nano", "vit_b", "vit_l", "vit_h"}


@pytest.mark.parametrize("name", get_args(SamName))
def test_the_table_agrees_with_what_is_built(name: SamName) -> None:
    with torch.device("meta"):  # no memory: vit_h has 641 million weights
        sam = build_sam(name)
    size = SAM_SIZES[name]
    assert sam.image_encoder.img_size == size.image_size
    assert sam.prompt_encoder.embed_dim == sam.mask_decoder.transformer_dim == size.embed_dim
    assert sam.prompt_encoder.input_image_size == (size.image_size, size.image_size)
    grid = size.image_size // size.patch
    assert sam.prompt_encoder.image_embedding_size == (grid, grid)


def test_nano_is_made_of_stock_classes_and_one_mask_token() -> None:
    sam = build_sam("nano")
    assert type(sam) is Sam
    assert type(sam.prompt_encoder) is PromptEncoder
    assert type(sam.mask_decoder) is MaskDecoder
    assert type(sam.mask_decoder.transformer) is TwoWayTransformer
    assert sam.mask_decoder.num_mask_tokens == 1
    assert not any(module.training for module in sam.modules())


def test_the_seed_fixes_the_weights() -> None:
    first, again, other = (build_sam("nano", seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = "image_encoder.stage4.0.0.weight"
    assert not torch.equal(first[drawn], other[drawn])


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_sam("nano", seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_name_is_an_error_that_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'vit_x'.*nano, vit_b, vit_l, vit_h"):
        build_sam.__wrapped__("vit_x")  # past the type checks of the tests, as a user calls it
