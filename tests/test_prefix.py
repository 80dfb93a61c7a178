"""On random weights and a parser that sees the drawn face: what must hold whatever the models learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from s3pot.matching.selector import SelectorConfig
from s3pot.matching.similarity import face_tokens, placewise_similarity
from s3pot.parsing.classes import CLASSES
from s3pot.prefix import FrozenPrefix, PrefixConfig, PrefixResult
from s3pot.reference.degradation import degrade_reference
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from tests.faces import draw_face
from tests.stand_ins import DrawnFaceParser, drawn_prefix, textured_face

SKIN = CLASSES.index("skin")
BACKGROUND = np.zeros((256, 256), np.uint8)


@pytest.fixture(scope="module")
def prefix() -> FrozenPrefix:
    return drawn_prefix()


@pytest.fixture(scope="module")
def nano_prefix() -> FrozenPrefix:
    return drawn_prefix(sam=PromptableSam(build_sam("nano").requires_grad_(False)))


def faces(number: int = 3) -> list[np.ndarray]:
    return [textured_face(seed)[0] for seed in range(number)]


def prompts_of(result: PrefixResult) -> tuple[list[int], list[int]]:
    return result.occlusion_prompts.tolist(), result.face_prompts.tolist()


def all_prompts(result: PrefixResult) -> list[int]:
    return sorted([*result.occlusion_prompts.tolist(), *result.face_prompts.tolist()])


def agreement(one: PrefixResult, other: PrefixResult) -> float:
    """Share of the face tokens that have the same polarity."""
    first, second = set(one.occlusion_prompts.tolist()), set(other.occlusion_prompts.tolist())
    return 1 - len(first ^ second) / max(1, len(all_prompts(one)))


def test_stages_and_frames(nano_prefix: FrozenPrefix) -> None:
    [result] = nano_prefix.run(faces(1), ["a"])
    assert (result.id, result.status) == ("a", "ok")
    assert result.parsing.shape == result.face_mask.shape == (256, 256)
    assert result.reference.shape == (256, 256, 3)
    assert result.image_tokens.shape == result.reference_tokens.shape == (128, 32, 32)
    assert result.image_tokens.dtype == torch.float32
    assert result.similarity.shape == (1024,)
    assert not result.image_tokens.requires_grad
    np.testing.assert_array_equal(result.parsing, draw_face(256)[1])
    record = result.record()
    assert record.id == "a"
    assert record.image_tokens is result.image_tokens
    assert (record.occlusion_prompts.tolist(), record.face_prompts.tolist()) == prompts_of(result)


@pytest.mark.parametrize("kind", ["greedy", "threshold", "otsu"])
def test_prompts_are_the_face_tokens_each_once(kind: str) -> None:
    prefix = drawn_prefix(PrefixConfig(selector=SelectorConfig(kind=kind)))
    for result in prefix.run(faces(), ["a", "b", "c"], references=faces()[::-1]):
        occlusion, face = prompts_of(result)
        expected = face_tokens(torch.from_numpy(result.face_mask[None]), prefix.sam.token_grid)[0].nonzero().flatten()
        assert all_prompts(result) == expected.tolist()
        assert occlusion == sorted(occlusion)
        assert face == sorted(face)
        assert result.initial_prompt in expected.tolist()


def test_a_batch_equals_single_images(prefix: FrozenPrefix) -> None:
    """Pictures of three shapes, one of them without a face."""
    images = [faces()[0], faces()[1][:200].copy(), faces()[2][:, :160].copy(), faces()[0]]
    parsings = [textured_face()[1], textured_face()[1][:200].copy(), textured_face()[1][:, :160].copy(), BACKGROUND]
    names = ["a", "b", "c", "d"]
    together = prefix.run(images, names, parsings=parsings)
    assert [result.status for result in together] == ["ok", "ok", "ok", "no_face"]
    for image, parsing, name, result in zip(images, parsings, names, together, strict=True):
        [alone] = prefix.run([image], [name], parsings=[parsing])
        assert (alone.id, alone.status, alone.initial_prompt) == (result.id, result.status, result.initial_prompt)
        np.testing.assert_allclose(alone.reference.astype(int), result.reference, atol=1)
        torch.testing.assert_close(alone.image_tokens, result.image_tokens, rtol=1e-4, atol=1e-4)
        assert agreement(alone, result) >= 0.95  # a rounded pixel of the reference may turn a near-tie


def test_a_batch_is_the_same_every_time(nano_prefix: FrozenPrefix) -> None:
    once, again = (nano_prefix.run(faces(2), ["a", "b"]) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert prompts_of(one) == prompts_of(other)
        assert torch.equal(one.similarity, other.similarity)


def test_the_layout_of_a_picture_in_memory_does_not_matter(prefix: FrozenPrefix) -> None:
    image = np.ascontiguousarray(faces(1)[0])
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    [expected] = prefix.run([image], ["a"])
    for same in (planes, mirrored):
        [found] = prefix.run([same], ["a"])
        np.testing.assert_array_equal(found.reference, expected.reference)
        assert torch.equal(found.similarity, expected.similarity)


class TestNoFace:
    def test_is_a_status_with_empty_prompts(self, prefix: FrozenPrefix) -> None:
        [result] = prefix.run(faces(1), ["a"], parsings=[BACKGROUND])
        assert result.status == "no_face"
        assert result.initial_prompt is None
        assert prompts_of(result) == ([], [])
        assert result.occlusion_prompts.dtype == torch.int64
        assert not result.face_mask.any()

    def test_does_not_touch_its_neighbours(self, prefix: FrozenPrefix) -> None:
        images, drawn = faces(2), textured_face()[1]
        both, beside = (
            prefix.run(images, ["a", "b"], parsings=[drawn, other], references=images[::-1])
            for other in (drawn, BACKGROUND)
        )
        assert prompts_of(both[0]) == prompts_of(beside[0])
        assert beside[1].status == "no_face"

    def test_less_than_half_a_token_is_no_face(self, prefix: FrozenPrefix) -> None:
        parsing = BACKGROUND.copy()
        parsing[100:110, 100:110] = SKIN  # a token of the tiny SAM is 32 px wide
        assert prefix.run(faces(1), ["a"], parsings=[parsing])[0].status == "no_face"


@pytest.mark.parametrize("kind", ["greedy", "otsu"])
@pytest.mark.parametrize(("height", "width"), [(200, 256), (256, 200), (256, 40)])
def test_padding_never_becomes_a_prompt(kind: str, height: int, width: int) -> None:
    sam = PromptableSam(build_sam("nano").requires_grad_(False))
    prefix = drawn_prefix(PrefixConfig(selector=SelectorConfig(kind=kind)), sam)
    image = faces(1)[0][:height, :width].copy()
    [result] = prefix.run([image], ["a"], parsings=[np.full((height, width), SKIN, np.uint8)])
    # All of the picture is face: the prompts are all tokens of the picture, 8 px each, and no other.
    inside = [row * 32 + col for row in range(height // 8) for col in range(width // 8)]
    assert all_prompts(result) == inside
    assert result.initial_prompt in inside
    assert result.reference.shape == (height, width, 3)
    assert result.face_mask.shape == (height, width)


def test_a_parsed_picture_that_is_not_square_keeps_its_frame(prefix: FrozenPrefix) -> None:
    [result] = prefix.run([faces(1)[0][:200].copy()], ["a"])
    np.testing.assert_array_equal(result.parsing, draw_face(256)[1][:200])
    assert result.reference.shape == (200, 256, 3)


class TestContrast:
    @pytest.mark.parametrize("feature_enhancement", [True, False])
    def test_a_picture_is_no_occlusion_of_itself(self, feature_enhancement: bool) -> None:
        prefix = drawn_prefix(PrefixConfig(feature_enhancement=feature_enhancement))
        for result in prefix.run(faces(), ["a", "b", "c"], references=faces()):
            assert result.status == "no_occlusion_prompts"
            torch.testing.assert_close(result.similarity, torch.ones_like(result.similarity))

    def test_what_the_reference_lacks_becomes_occlusion_prompts(self, nano_prefix: FrozenPrefix) -> None:
        [clean] = faces(1)
        occluded = clean.copy()
        occluded[130:200, 90:170] = np.random.default_rng(0).integers((20, 60, 220), (50, 90, 250), (70, 80, 3))
        [result] = nano_prefix.run([occluded], ["a"], references=[clean])
        rows, cols = result.occlusion_prompts // 32 * 8 + 4, result.occlusion_prompts % 32 * 8 + 4
        inside = (rows >= 130) & (rows < 200) & (cols >= 90) & (cols < 170)
        # The patch is a quarter of the face. The weights are random: it is frames and polarity that are tested.
        assert inside.float().mean() > 0.5

    def test_without_feature_enhancement_plain_tokens_are_compared(self) -> None:
        plain = drawn_prefix(PrefixConfig(feature_enhancement=False))
        [result] = plain.run(faces(1), ["a"])
        expected = placewise_similarity(result.image_tokens[None], result.reference_tokens[None])[0]
        torch.testing.assert_close(result.similarity, expected)
        [enhanced] = drawn_prefix().run(faces(1), ["a"])
        assert (enhanced.similarity - expected).abs().max() > 1e-3
        torch.testing.assert_close(enhanced.image_tokens, result.image_tokens)

    def test_completion_comes_before_the_reference(self) -> None:
        glasses = draw_face(256)[1]
        glasses[100:125, 80:176] = CLASSES.index("eye_glass")

        class Spectacled(DrawnFaceParser):
            def forward(self, image: torch.Tensor) -> torch.Tensor:
                onehot = torch.nn.functional.one_hot(torch.from_numpy(glasses).long(), 12)
                return onehot.permute(2, 0, 1)[None].float().expand(len(image), -1, -1, -1)

        results = {}
        for mode in ("none", "parser"):
            prefix = drawn_prefix(PrefixConfig(face_completion=mode))
            prefix.parser = Spectacled()
            [results[mode]] = prefix.run(faces(1), ["a"])
        assert (results["none"].parsing == CLASSES.index("eye_glass")).any()
        assert not (results["parser"].parsing == CLASSES.index("eye_glass")).any()
        assert results["parser"].face_mask.sum() > results["none"].face_mask.sum()
        assert (results["parser"].reference != results["none"].reference).any()


class TestInitialPrompt:
    @pytest.mark.parametrize("strategy", ["most_similar", "least_similar"])
    def test_is_the_extreme_face_token_of_the_plain_tokens(self, strategy: str) -> None:
        prefix = drawn_prefix(PrefixConfig(initial_prompt=strategy))
        [result] = prefix.run(faces(1), ["a"])
        ids = all_prompts(result)
        similarity = placewise_similarity(result.image_tokens[None], result.reference_tokens[None])[0][ids]
        best = similarity.max() if strategy == "most_similar" else similarity.min()
        assert similarity[ids.index(result.initial_prompt)] == pytest.approx(float(best), abs=1e-6)

    def test_a_random_one_depends_on_seed_and_id_alone(self) -> None:
        config = PrefixConfig(initial_prompt="random")
        images, references = faces(), faces()[::-1]
        forward = drawn_prefix(config).run(images, ["a", "b", "c"], references=references)
        backward = drawn_prefix(config).run(images[::-1], ["c", "b", "a"], references=references[::-1])[::-1]
        chosen = [result.initial_prompt for result in forward]
        assert chosen == [result.initial_prompt for result in backward]
        other = drawn_prefix(replace(config, seed=1)).run(images, ["a", "b", "c"], references=references)
        assert chosen != [result.initial_prompt for result in other]


class TestErrors:
    @pytest.mark.parametrize("shape", [(128, 128, 3), (300, 256, 3), (255, 255, 3)])
    def test_a_picture_of_another_size_is_named(self, prefix: FrozenPrefix, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"^b: .* 256"):
            prefix.run([*faces(1), np.zeros(shape, np.uint8)], ["a", "b"])

    def test_a_parsing_of_another_frame_is_named(self, prefix: FrozenPrefix) -> None:
        with pytest.raises(ValueError, match="b: the parsing is"):
            prefix.run(faces(2), ["a", "b"], parsings=[BACKGROUND, BACKGROUND[:200]])

    def test_a_reference_of_another_frame_is_named(self, prefix: FrozenPrefix) -> None:
        large = np.zeros((512, 512, 3), np.uint8)
        with pytest.raises(ValueError, match="a: the reference is"):
            prefix.run(faces(1), ["a"], references=[large])

    def test_one_id_and_one_parsing_per_picture(self, prefix: FrozenPrefix) -> None:
        with pytest.raises(ValueError, match="argument 2"):
            prefix.run(faces(2), ["a"])
        with pytest.raises(ValueError, match="argument 2"):
            prefix.run(faces(2), ["a", "b"], parsings=[BACKGROUND])


class TestOptionsOfAblations:
    def test_the_degraded_reference_is_what_is_contrasted(self) -> None:
        images, names = faces(2), ["a", "b"]
        blurred = [degrade_reference(image, 0.5) for image in images[::-1]]
        expected = drawn_prefix().run(images, names, references=blurred)
        found = drawn_prefix(PrefixConfig(reference_degradation=0.5)).run(images, names, references=images[::-1])
        plain = drawn_prefix().run(images, names, references=images[::-1])
        for one, other, without in zip(found, expected, plain, strict=True):
            assert torch.equal(one.reference_tokens, other.reference_tokens)
            assert not torch.equal(one.reference_tokens, without.reference_tokens)
            assert torch.equal(one.image_tokens, without.image_tokens)
            assert prompts_of(one) == prompts_of(other)
            np.testing.assert_array_equal(one.reference, other.reference)

    def test_fewer_prompts_are_a_part_of_more(self) -> None:
        images, names = faces(2), ["a", "b"]
        runs = {most: drawn_prefix(PrefixConfig(most_prompts=most)).run(images, names) for most in (1, 3, None)}
        again = drawn_prefix(PrefixConfig(most_prompts=3)).run(images[::-1], names[::-1])[::-1]
        other = drawn_prefix(PrefixConfig(most_prompts=3, seed=1)).run(images, names)
        for row in range(2):
            one, three, every = (prompts_of(runs[most][row]) for most in (1, 3, None))
            for few, more, whole in zip(one, three, every, strict=True):
                assert (len(few), len(more)) == (min(1, len(whole)), min(3, len(whole)))
                assert set(few) <= set(more) <= set(whole)
                assert more == sorted(more)
            assert prompts_of(again[row]) == three, "an image's draw does not depend on the others"
        assert [prompts_of(result) for result in other] != [prompts_of(result) for result in runs[3]]

    @pytest.mark.parametrize(
        "wrong", [{"reference_degradation": 1.1}, {"reference_degradation": -0.1}, {"most_prompts": 0}]
    )
    def test_ranges(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PrefixConfig(**wrong)

    def test_an_option_that_is_not_used_does_not_count(self) -> None:
        assert {"reference_degradation", "most_prompts"}.isdisjoint(PrefixConfig().counted())
        assert PrefixConfig(reference_degradation=0.5).counted()["reference_degradation"] == 0.5
        assert PrefixConfig(most_prompts=4).counted()["most_prompts"] == 4
