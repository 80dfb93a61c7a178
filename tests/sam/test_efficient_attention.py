import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn
from torch.nn import functional

from s3pot.sam.efficient_attention import EfficientAttention, use_efficient_attention
from s3pot.sam.sizes import build_sam
from tests.stand_ins import tiny_stock_sam


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight drawn anew: stock relative positions start at zero and would show nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        large = "rel_pos" in name or name.endswith("pos_embed")
        nn.init.normal_(weight, std=1.0 if large else 0.2, generator=generator)
    return network.eval().requires_grad_(False)


def stock_attention(rows: int, cols: int, **kinds: bool) -> Attention:
    return drawn(Attention(32, num_heads=4, input_size=(rows, cols), **kinds))


def stock_encoder() -> ImageEncoderViT:
    """Two windowed blocks, whose windows do not divide the 6 x 6 grid, and a global one."""
    return drawn(
        ImageEncoderViT(
            img_size=48,
            patch_size=8,
            embed_dim=32,
            depth=3,
            num_heads=4,
            out_chans=16,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
        )
    )


def random_tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (7, 7), (5, 9), (8, 3)])
@pytest.mark.parametrize(
    "kinds", [{"use_rel_pos": True}, {"use_rel_pos": False}, {"use_rel_pos": True, "qkv_bias": False}]
)
def test_attention_equals_the_stock_one(rows: int, cols: int, kinds: dict[str, bool]) -> None:
    stock = stock_attention(rows, cols, **kinds)
    tokens = random_tokens(2, rows, cols, 32)
    torch.testing.assert_close(EfficientAttention(stock)(tokens), stock(tokens), rtol=1e-4, atol=1e-5)


def test_relative_positions_matter_in_both_directions() -> None:
    tokens = random_tokens(1, 5, 9, 32)
    for name in ("rel_pos_h", "rel_pos_w"):
        attention = EfficientAttention(stock_attention(5, 9, use_rel_pos=True))
        before = attention(tokens)
        getattr(attention, name).zero_()
        assert (attention(tokens) - before).abs().max() > 1e-2


def test_a_grid_of_another_size_resizes_the_relative_positions_as_stock_does() -> None:
    stock = stock_attention(8, 8, use_rel_pos=True)
    tokens = random_tokens(1, 4, 6, 32)
    torch.testing.assert_close(EfficientAttention(stock)(tokens), stock(tokens), rtol=1e-4, atol=1e-5)


def test_half_precision_stays_near_full_precision() -> None:
    stock = stock_attention(6, 6, use_rel_pos=True)
    tokens = random_tokens(1, 6, 6, 32)
    expected = stock(tokens)
    found = EfficientAttention(stock).bfloat16()(tokens.bfloat16())
    assert found.dtype == torch.bfloat16
    assert functional.cosine_similarity(found.float(), expected, dim=-1).min() > 0.99


def test_gradients_equal_those_of_the_stock_one() -> None:
    stock = stock_attention(4, 5, use_rel_pos=True).requires_grad_(True)
    weights = [stock.qkv.weight, stock.rel_pos_h, stock.rel_pos_w]
    tokens = random_tokens(1, 4, 5, 32)
    expected = torch.autograd.grad(stock(tokens).square().sum(), weights)
    found = torch.autograd.grad(EfficientAttention(stock)(tokens).square().sum(), weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_no_matrix_of_all_pairs_is_handed_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = EfficientAttention(stock_attention(8, 8, use_rel_pos=True))
    seen: list[torch.Size] = []
    kernel = functional.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, value: Tensor, *rest: object, **options: object) -> Tensor:
        assert not rest
        assert options.get("attn_mask") is None
        seen.extend(tensor.shape for tensor in (query, key, value))
        return kernel(query, key, value, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    attention(random_tokens(1, 8, 8, 32))
    # 8 channels a head, 8 rows and 8 columns; as wide everywhere, or PyTorch falls back to the explicit matrix.
    assert seen == [torch.Size([1, 4, 64, 24])] * 3


def test_an_encoder_of_windows_and_a_global_block_gives_the_same() -> None:
    sam = tiny_stock_sam()
    sam.image_encoder = stock_encoder()
    picture = random_tokens(2, 3, 48, 48)
    expected, names = sam.image_encoder(picture), list(sam.state_dict())
    assert use_efficient_attention(sam) is sam
    assert all(type(block.attn) is EfficientAttention for block in sam.image_encoder.blocks)
    torch.testing.assert_close(sam.image_encoder(picture), expected, rtol=1e-4, atol=1e-4)
    assert list(sam.state_dict()) == names
    assert not any(module.training for module in sam.image_encoder.modules())


def test_weights_loaded_afterwards_are_used() -> None:
    sam = tiny_stock_sam()
    sam.image_encoder = stock_encoder()
    use_efficient_attention(sam)
    other = drawn(stock_encoder(), seed=7)
    sam.image_encoder.load_state_dict(other.state_dict())
    picture = random_tokens(1, 3, 48, 48)
    torch.testing.assert_close(sam.image_encoder(picture), other(picture), rtol=1e-4, atol=1e-4)


def test_twice_is_once() -> None:
    sam = tiny_stock_sam()
    sam.image_encoder = stock_encoder()
    first = use_efficient_attention(sam).image_encoder.blocks[0].attn
    assert use_efficient_attention(sam).image_encoder.blocks[0].attn is first


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_official_sizes_are_stock_encoders(name: str) -> None:
    with torch.device("meta"):
        sam = build_sam(name)
        names = list(sam.state_dict())
        use_efficient_attention(sam)
    assert list(sam.state_dict()) == names
    assert not any(isinstance(module, Attention) for module in sam.image_encoder.modules())


def test_the_nano_sam_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="NanoImageEncoder"):
        use_efficient_attention(build_sam("nano"))
