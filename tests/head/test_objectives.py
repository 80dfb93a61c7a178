from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from s3pot.head.objectives import (
    ObjectiveConfig,
    ObjectiveVariant,
    objective_terms,
    sample_mask_logits,
)

VARIANTS: tuple[ObjectiveVariant, ...] = ("paper", "bounded", "released")
TERMS = ("recall_occlusion", "recall_face", "face_penalty", "total")


def logit(q: float) -> float:
    return log(q / (1 - q))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def one_image(occlusion_q: list[float], face_q: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float64, polarity and validity of one image with these probabilities."""
    logits = torch.tensor([[logit(q) for q in occlusion_q + face_q]], dtype=torch.float64)
    polarity = torch.tensor([[1] * len(occlusion_q) + [0] * len(face_q)])
    return logits, polarity, torch.ones_like(polarity, dtype=torch.bool)


def random_batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Three images with 6, 4 and 1 prompts, padded; the last has no face prompt."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, 6, generator=generator, dtype=dtype)
    polarity = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 1], [1, 0, 0, 0, 0, 0]])
    return logits, polarity, torch.arange(6) < torch.tensor([6, 4, 1])[:, None]


class TestHandWorked:
    def test_paper(self) -> None:
        terms = objective_terms(*one_image([0.5, 0.25], [0.1, 0.6, 0.5]), ObjectiveConfig())
        eq_1 = -(log(0.5) + log(0.25)) / 2
        eq_2 = (log(0.1) + log(0.6) + log(0.5)) / 3
        eq_3 = (sigmoid(-4.0) + sigmoid(1.0) + 0.5) / 3
        assert terms.recall_occlusion.item() == pytest.approx(eq_1)
        assert terms.recall_face.item() == pytest.approx(eq_2)
        assert terms.face_penalty.item() == pytest.approx(eq_3)
        assert terms.total.item() == pytest.approx(eq_2 + eq_1 + 0.5 * eq_3)

    def test_bounded(self) -> None:
        terms = objective_terms(*one_image([0.5], [0.1, 0.6]), ObjectiveConfig(variant="bounded"))
        assert terms.recall_occlusion.item() == pytest.approx(-log(0.5))
        assert terms.recall_face.item() == pytest.approx(-(log(0.9) + log(0.4)) / 2)
        assert terms.face_penalty.item() == pytest.approx((sigmoid(-4.0) + sigmoid(1.0)) / 2)

    def test_released(self) -> None:
        logits, polarity, valid = one_image([0.5, 0.5], [0.5, 0.5])
        logits = torch.tensor([[0.1, 0.0, -0.1, 0.2]], dtype=torch.float64)  # times 10: q = sigmoid(1), 0.5, ...
        terms = objective_terms(logits, polarity, valid, ObjectiveConfig(variant="released", lam=2.0))
        eq_1 = 1 - (sigmoid(1.0) + 0.5) / 2
        eq_2 = (sigmoid(-1.0) + sigmoid(2.0)) / 2
        eq_3 = (0.0 + sigmoid(2.0) - 0.5) / 2
        assert terms.recall_occlusion.item() == pytest.approx(eq_1)
        assert terms.recall_face.item() == pytest.approx(eq_2)
        assert terms.face_penalty.item() == pytest.approx(eq_3)
        assert terms.total.item() == pytest.approx(eq_2 + eq_1 + 2 * eq_3)

    def test_paper_takes_no_logarithm_below_epsilon(self) -> None:
        logits, polarity, valid = one_image([0.001, 0.5], [0.001, 0.5])
        logits.requires_grad_()
        terms = objective_terms(logits, polarity, valid, ObjectiveConfig(epsilon=0.01))
        assert terms.recall_occlusion.item() == pytest.approx(-(log(0.01) + log(0.5)) / 2)
        assert terms.recall_face.item() == pytest.approx((log(0.01) + log(0.5)) / 2)
        (terms.recall_occlusion + 3 * terms.recall_face).sum().backward()
        assert logits.grad is not None
        assert logits.grad[0, [0, 2]].tolist() == [0.0, 0.0]
        assert (logits.grad[0, [1, 3]] != 0).all()

    def test_alpha_steepens_the_penalty(self) -> None:
        terms = objective_terms(*one_image([0.5], [0.6]), ObjectiveConfig(alpha=20.0))
        assert terms.face_penalty.item() == pytest.approx(sigmoid(2.0))


@pytest.mark.parametrize("variant", VARIANTS)
class TestEveryVariant:
    @pytest.mark.parametrize("term", TERMS)
    def test_gradient(self, variant: ObjectiveVariant, term: str) -> None:
        logits, polarity, valid = random_batch()
        if variant == "released":
            logits = logits / 10  # q = sigmoid(10 * logit) is flat elsewhere

        def value(x: Tensor) -> Tensor:
            found: Tensor = getattr(objective_terms(x, polarity, valid, ObjectiveConfig(variant=variant)), term)
            return found

        assert torch.autograd.gradcheck(value, logits.requires_grad_())

    def test_minimising_separates_the_prompts(self, variant: ObjectiveVariant) -> None:
        logits, polarity, valid = one_image([0.5], [0.5])
        objective_terms(
            logits.requires_grad_(), polarity, valid, ObjectiveConfig(variant=variant)
        ).total.sum().backward()
        assert logits.grad is not None
        assert logits.grad[0, 0] < 0 < logits.grad[0, 1]

    def test_batch_equals_loop_without_padding(self, variant: ObjectiveVariant) -> None:
        logits, polarity, valid = random_batch()
        config = ObjectiveConfig(variant=variant)
        together = objective_terms(logits, polarity, valid, config)
        for i in range(3):
            n = int(valid[i].sum())
            cut = (slice(i, i + 1), slice(0, n))
            alone = objective_terms(logits[cut], polarity[cut], valid[cut], config)
            for name in (*TERMS, "empty_occlusion", "empty_face"):
                torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name)[0])

    @pytest.mark.parametrize("value", [0.0, 1e6, float("nan"), float("inf")])
    def test_what_padding_holds_does_not_matter(self, variant: ObjectiveVariant, value: float) -> None:
        logits, polarity, valid = random_batch()
        config = ObjectiveConfig(variant=variant)
        expected = objective_terms(logits, polarity, valid, config)
        spoilt = logits.masked_fill(~valid, value).requires_grad_()
        found = objective_terms(spoilt, polarity.masked_fill(~valid, 1), valid, config)
        for name in (*TERMS, "empty_occlusion", "empty_face"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        found.total.sum().backward()
        assert spoilt.grad is not None
        assert (spoilt.grad[~valid] == 0).all()
        assert spoilt.grad.isfinite().all()

    def test_empty_sets_contribute_nothing_and_are_counted(self, variant: ObjectiveVariant) -> None:
        logits = torch.tensor([[0.3, -0.2], [0.3, -0.2], [0.3, -0.2]], requires_grad=True)
        polarity = torch.tensor([[1, 1], [0, 0], [0, 1]])
        valid = torch.tensor([[True, True], [True, True], [False, False]])
        config = ObjectiveConfig(variant=variant)
        terms = objective_terms(logits, polarity, valid, config)
        assert terms.empty_occlusion.tolist() == [False, True, True]
        assert terms.empty_face.tolist() == [True, False, True]
        assert terms.recall_face[0] == terms.face_penalty[0] == terms.recall_occlusion[1] == terms.total[2] == 0
        assert terms.total[0] == terms.recall_occlusion[0]
        assert terms.total[1] == terms.recall_face[1] + 0.5 * terms.face_penalty[1]
        terms.total.sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        assert (logits.grad[2] == 0).all()

    def test_no_prompts_at_all(self, variant: ObjectiveVariant) -> None:
        empty = torch.zeros(2, 0)
        terms = objective_terms(empty, empty.long(), empty.bool(), ObjectiveConfig(variant=variant))
        assert terms.total.tolist() == [0.0, 0.0]
        assert terms.empty_occlusion.all()
        assert terms.empty_face.all()

    @pytest.mark.parametrize("size", [100.0, -100.0])
    def test_extreme_logits_stay_finite(self, variant: ObjectiveVariant, size: float) -> None:
        logits = torch.full((1, 4), size, requires_grad=True)
        polarity, valid = torch.tensor([[1, 1, 0, 0]]), torch.ones(1, 4, dtype=torch.bool)
        terms = objective_terms(logits, polarity, valid, ObjectiveConfig(variant=variant))
        assert all(getattr(terms, name).isfinite().all() for name in TERMS)
        terms.total.sum().backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize(
        "on",
        [
            {"recall_occlusion"},
            {"recall_face"},
            {"face_penalty"},
            {"recall_occlusion", "recall_face"},
            {"recall_face", "face_penalty"},
            {"recall_occlusion", "face_penalty"},
        ],
    )
    def test_terms_switched_off_leave_the_total(self, variant: ObjectiveVariant, on: set[str]) -> None:
        full = ObjectiveConfig(variant=variant, lam=0.7)
        config = replace(full, **{name: name in on for name in TERMS[:3]})
        everything = objective_terms(*random_batch(), full)
        terms = objective_terms(*random_batch(), config)
        weights = {"recall_occlusion": 1.0, "recall_face": 1.0, "face_penalty": 0.7}
        expected = sum(weights[name] * getattr(everything, name) for name in on)
        torch.testing.assert_close(terms.total, expected)
        for name in TERMS[:3]:
            assert torch.equal(getattr(terms, name), getattr(everything, name))


def test_bounded_sees_a_certain_mistake() -> None:
    # 1 - sigmoid(40) rounds to 0 in float32; the logarithm must be taken of the exact value.
    logits = torch.tensor([[40.0]], requires_grad=True)
    terms = objective_terms(
        logits, torch.tensor([[0]]), torch.tensor([[True]]), ObjectiveConfig(variant="bounded", face_penalty=False)
    )
    assert terms.total.item() == pytest.approx(40.0)
    terms.total.backward()
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(1.0)


class TestSampling:
    def test_hand_worked(self) -> None:
        # 2 x 2 tokens of 4 x 4 mask pixels: the centre of token 1 is between rows 1, 2 and columns 5, 6.
        mask = torch.arange(64.0).reshape(1, 8, 8)
        found = sample_mask_logits(mask, torch.tensor([[1, 2]]), (2, 2))
        assert found.tolist() == [[(13 + 14 + 21 + 22) / 4, (41 + 42 + 49 + 50) / 4]]

    @pytest.mark.parametrize(
        ("side", "grid"), [((8, 12), (2, 3)), ((9, 6), (3, 2)), ((4, 6), (4, 6)), ((5, 7), (2, 3))]
    )
    def test_equals_grid_sample(self, side: tuple[int, int], grid: tuple[int, int]) -> None:
        h, w = grid
        mask = torch.randn(2, *side, dtype=torch.float64)
        ids = torch.arange(h * w).expand(2, -1).flip(1)
        rows, columns = ids // w, ids % w
        places = torch.stack([(columns + 0.5) / w * 2 - 1, (rows + 0.5) / h * 2 - 1], dim=-1)[:, None].double()
        expected = torch.nn.functional.grid_sample(mask[:, None], places, align_corners=False, padding_mode="border")
        torch.testing.assert_close(sample_mask_logits(mask, ids, grid), expected[:, 0, 0], atol=1e-6, rtol=0)

    def test_masks_coarser_than_the_grid_stop_at_the_border(self) -> None:
        mask = torch.tensor([[[0.0, 4.0]]])
        assert sample_mask_logits(mask, torch.tensor([[0, 1, 2, 3]]), (1, 4)).tolist() == [[0.0, 1.0, 3.0, 4.0]]

    def test_half_precision_masks_are_sampled_at_the_same_places(self) -> None:
        mask = torch.zeros(1, 256, 256, dtype=torch.bfloat16)
        mask[0, 253, 253] = 4.0
        assert sample_mask_logits(mask, torch.tensor([[64 * 64 - 1]]), (64, 64)).item() == 1.0

    def test_gradient(self) -> None:
        mask = torch.randn(2, 8, 8, dtype=torch.float64, requires_grad=True)
        ids = torch.tensor([[0, 3, 3], [2, 1, 0]])
        assert torch.autograd.gradcheck(lambda m: sample_mask_logits(m, ids, (2, 2)), mask)

    def test_no_prompts(self) -> None:
        assert sample_mask_logits(torch.zeros(2, 8, 8), torch.zeros(2, 0, dtype=torch.int64), (2, 2)).shape == (2, 0)


def test_defaults_are_the_paper() -> None:
    config = ObjectiveConfig()
    assert (config.variant, config.lam, config.alpha, config.epsilon) == ("paper", 0.5, 10.0, 1e-4)
    assert config.recall_occlusion
    assert config.recall_face
    assert config.face_penalty


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lam", -0.1),
        ("lam", float("nan")),
        ("alpha", 0.0),
        ("alpha", float("inf")),
        ("epsilon", 0.0),
        ("epsilon", 1.0),
        ("variant", "hinge"),
    ],
)
def test_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(Exception, match=field):
        ObjectiveConfig(**{field: value})


def test_one_term_must_be_on() -> None:
    with pytest.raises(ValueError, match="recall_occlusion"):
        ObjectiveConfig(recall_occlusion=False, recall_face=False, face_penalty=False)
