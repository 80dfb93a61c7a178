from typing import Any

import pytest
import torch
from torch import Tensor

from s3pot.matching.selector import SelectorConfig, select_prompts

CONFIGS = [
    SelectorConfig(kind=kind, centered=centered)
    for kind in ("greedy", "threshold", "otsu")
    for centered in (False, True)
]


def scene(batch: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image and reference that differ at tokens 7, 8, 13, 14, face mask, validity: the last column is padding."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(batch, 16, 6, 6, generator=generator).abs()
    reference[:, 8:] = 0
    image = reference + 0.05 * torch.randn(batch, 16, 6, 6, generator=generator)
    image[:, :8, 1:3, 1:3] = 0
    image[:, 8:, 1:3, 1:3] += 5
    face = torch.zeros(batch, 6, 6, dtype=torch.bool)
    face[:, 1:5, 1:6] = True
    valid = torch.ones(batch, 6, 6, dtype=torch.bool)
    valid[:, :, 5] = False
    return image, reference, face.flatten(1), valid.flatten(1)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
class TestEverySelector:
    def test_finds_the_occluder(self, config: SelectorConfig) -> None:
        prompts = select_prompts(*scene(1), config)[0]
        found = set(prompts.occlusion_prompts.tolist())
        # Otsu's threshold is the centre of the bin that holds the highest similarity below it, which may stay above.
        assert found == {7, 8, 13, 14} or (config.kind == "otsu" and found < {7, 8, 13, 14} and len(found) == 3)

    def test_prompts_are_the_face_tokens_outside_padding(self, config: SelectorConfig) -> None:
        image, reference, face, valid = scene(2)
        for i, prompts in enumerate(select_prompts(image, reference, face, valid, config)):
            both = torch.cat([prompts.occlusion_prompts, prompts.face_prompts])
            assert torch.equal(both.sort().values, (face & valid)[i].nonzero().flatten())
            for ids in (prompts.occlusion_prompts, prompts.face_prompts):
                assert ids.dtype == torch.int64
                assert torch.equal(ids, ids.sort().values)

    def test_batch_equals_loop(self, config: SelectorConfig) -> None:
        image, reference, face, valid = scene(4)
        face[1] = False
        face[2, :15] = False
        together = select_prompts(image, reference, face, valid, config)
        for i, prompts in enumerate(together):
            part = slice(i, i + 1)
            alone = select_prompts(image[part], reference[part], face[part], valid[part], config)[0]
            assert torch.equal(prompts.occlusion_prompts, alone.occlusion_prompts)
            assert torch.equal(prompts.face_prompts, alone.face_prompts)

    @pytest.mark.parametrize("nothing", ["face", "valid"])
    def test_no_face_gives_two_empty_sets(self, config: SelectorConfig, nothing: str) -> None:
        image, reference, face, valid = scene(1)
        prompts = select_prompts(image, reference, face & (nothing != "face"), valid & (nothing != "valid"), config)[0]
        assert prompts.occlusion_prompts.tolist() == prompts.face_prompts.tolist() == []

    def test_what_padding_holds_does_not_matter(self, config: SelectorConfig) -> None:
        image, reference, face, valid = scene(1)
        expected = select_prompts(image, reference, face, valid, config)[0]
        image[..., 5], reference[..., 5] = torch.nan, 7.0
        prompts = select_prompts(image, reference, face, valid, config)[0]
        assert torch.equal(prompts.occlusion_prompts, expected.occlusion_prompts)

    def test_tokens_that_are_not_finite(self, config: SelectorConfig) -> None:
        image, reference, face, valid = scene(1)
        image[0, 0, 2, 2] = torch.nan
        with pytest.raises(ValueError, match="finite"):
            select_prompts(image, reference, face, valid, config)


# Without Otsu's method: it always splits, here along the rounding errors of a similarity of 1.
@pytest.mark.parametrize("config", [c for c in CONFIGS if c.kind != "otsu"], ids=str)
def test_the_same_picture_twice_has_no_occlusion(config: SelectorConfig) -> None:
    image, _, face, valid = scene(1)
    assert select_prompts(image, image, face, valid, config)[0].occlusion_prompts.tolist() == []


def test_greedy_lets_a_face_part_move() -> None:
    # The reference shows the same two tokens with places exchanged: nothing is occluded, which only matching can see.
    image = torch.eye(4).reshape(1, 4, 2, 2)
    reference = image[..., [1, 0]]
    face = valid = torch.ones(1, 4, dtype=torch.bool)
    assert select_prompts(image, reference, face, valid, SelectorConfig())[0].face_prompts.tolist() == [0, 1, 2, 3]
    threshold = SelectorConfig(kind="threshold")
    assert select_prompts(image, reference, face, valid, threshold)[0].occlusion_prompts.tolist() == [0, 1, 2, 3]


def test_defaults_are_the_paper() -> None:
    assert SelectorConfig() == SelectorConfig(kind="greedy", tau=0.5, centered=False)


@pytest.mark.parametrize(("field", "value"), [("tau", 1.5), ("tau", float("nan")), ("kind", "nearest")])
def test_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(Exception, match=field):
        SelectorConfig(**{field: value})
