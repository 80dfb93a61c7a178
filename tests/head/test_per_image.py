"""Overfitting images together, against the plain loop that has each by itself."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from s3pot.head.per_image import CURVES, Overfitted, PerImageConfig, initial_head, is_flat, overfit_heads
from s3pot.head.records import PromptRecord, collate, occlusion_logits
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.head.training import TrainingConfig, train_head
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import derive_seed
from tests.head_training import OBJECTIVE, assert_equal_weights, seven_records, weights
from tests.stand_ins import random_record, tiny_sam

CONFIG = PerImageConfig(steps=8, learning_rate=1e-2)
# Stops images at different steps, and leaves some to use their budget.
PATIENT = PerImageConfig(steps=10, learning_rate=2e-2, patience=3, min_improvement=0.003)
FORM = ReweighterConfig(embed_dim=32, num_heads=2)
Fitted = tuple[list[PromptReweighter], list[Overfitted]]


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return tiny_sam()


def fit(
    sam: PromptableSam, records: Sequence[PromptRecord], config: PerImageConfig, form: ReweighterConfig = FORM
) -> Fitted:
    heads = [initial_head(form, 0, record.id) for record in records]
    return heads, overfit_heads(heads, sam, records, config, OBJECTIVE)


def fit_in_groups(
    sam: PromptableSam,
    records: Sequence[PromptRecord],
    sizes: Sequence[int],
    config: PerImageConfig,
    form: ReweighterConfig = FORM,
) -> Fitted:
    heads, results = [], []
    for size, end in zip(sizes, itertools.accumulate(sizes), strict=True):
        group = fit(sam, records[end - size : end], config, form)
        heads += group[0]
        results += group[1]
    return heads, results


def mask(sam: PromptableSam, head: PromptReweighter, record: PromptRecord) -> Tensor:
    """What the head does to its image. Its weights themselves may differ where they have no effect."""
    with torch.no_grad():
        return occlusion_logits(sam, head, collate([record]))[0]


def assert_same_results(
    sam: PromptableSam,
    records: Sequence[PromptRecord],
    one: Fitted,
    other: Fitted,
) -> None:
    for record, head, result, expected_head, expected in zip(records, *one, *other, strict=True):
        assert (result.stopped, result.steps) == (expected.stopped, expected.steps), record.id
        for name in CURVES:
            assert result.curves[name] == pytest.approx(expected.curves[name], rel=1e-3, abs=1e-5), record.id
        torch.testing.assert_close(mask(sam, head, record), mask(sam, expected_head, record), rtol=1e-3, atol=1e-3)


class TestAlone:
    @pytest.mark.parametrize("record", seven_records(), ids=lambda record: record.id)
    def test_equals_a_training_on_one_image_to_the_bit(self, sam: PromptableSam, record: PromptRecord) -> None:
        [head], [result] = fit(sam, [record], CONFIG)
        expected = initial_head(FORM, 0, record.id)
        training = TrainingConfig(epochs=8, batch_size=1, learning_rate=1e-2)
        reports = train_head(expected, sam, [record], training, OBJECTIVE)
        assert_equal_weights(weights(head), weights(expected))
        for name in CURVES:
            assert list(result.curves[name][:-1]) == [getattr(report, name) for report in reports]
        assert (result.stopped, result.steps) == ("budget", 8)

    def test_the_last_value_is_that_of_the_head_as_it_is_kept(self, sam: PromptableSam) -> None:
        record = random_record("a", 6, 12)
        [head], [result] = fit(sam, [record], CONFIG)
        again = overfit_heads([head], sam, [record], replace(CONFIG, steps=1), OBJECTIVE)
        assert result.curves["total"][-1] == again[0].curves["total"][0]

    def test_the_head_is_left_in_eval_mode_and_the_sam_as_it_was(self, sam: PromptableSam) -> None:
        before = weights(sam)
        [head], _ = fit(sam, [random_record("a", 6, 12)], CONFIG)
        assert not head.training
        assert_equal_weights(before, weights(sam))

    def test_no_global_random_number_is_drawn(self, sam: PromptableSam) -> None:
        before = torch.get_rng_state()
        fit(sam, seven_records()[:2], CONFIG)
        assert torch.equal(torch.get_rng_state(), before)


class TestTogether:
    @pytest.mark.parametrize(
        ("sizes", "order", "form"),
        [
            ((7,), 1, FORM),
            ((2, 2, 2, 1), -1, FORM),
            ((7,), -1, replace(FORM, num_heads=4, num_layers=2)),
            ((3, 4), 1, replace(FORM, variant="released")),
        ],
        ids=["all", "pairs in reverse", "two layers", "released"],
    )
    def test_neither_packing_nor_order_matters(
        self, sam: PromptableSam, sizes: tuple[int, ...], order: int, form: ReweighterConfig
    ) -> None:
        """Different numbers of prompts, images without one kind or any, against one image at a time."""
        records = seven_records()[::order]
        packed = fit_in_groups(sam, records, sizes, CONFIG, form)
        assert_same_results(sam, records, packed, fit_in_groups(sam, records, [1] * 7, CONFIG, form))

    def test_a_spoilt_image_takes_no_other_along(self, sam: PromptableSam) -> None:
        spoilt = random_record("spoilt", 3, 3)
        spoilt.image_tokens[0, 0, 0] = float("nan")
        fine = [random_record("a", 6, 12), random_record("b", 10, 20)]
        heads, results = fit(sam, [fine[0], spoilt, fine[1]], CONFIG)
        assert (results[1].stopped, results[1].steps) == ("not_finite", 0)
        assert_same_results(sam, fine, ([heads[0], heads[2]], [results[0], results[2]]), fit(sam, fine, CONFIG))

    def test_as_many_heads_as_images(self, sam: PromptableSam) -> None:
        head = initial_head(FORM, 0, "a")
        for heads, records in (([head], seven_records()), ([], [])):
            with pytest.raises(ValueError, match="expected a head for each image"):
                overfit_heads(heads, sam, records, CONFIG, OBJECTIVE)


@pytest.fixture(scope="module")
def patient(sam: PromptableSam) -> Fitted:
    """Seven images together that stop early."""
    return fit(sam, seven_records(), PATIENT)


class TestEarlyStop:
    def test_images_stop_when_they_are_flat_each_at_its_own_step(self, patient: Fitted) -> None:
        _, results = patient
        assert {result.stopped for result in results} == {"flat", "budget"}
        assert len({result.steps for result in results}) >= 3
        for result in results:
            totals = result.curves["total"]
            assert len(totals) == result.steps + 1
            if result.stopped == "flat":
                assert min(totals[:-3]) - min(totals[-3:]) <= 0.003
            for end in range(5, len(totals)):
                assert min(totals[: end - 3]) - min(totals[end - 3 : end]) > 0.003, "went on although it was flat"

    def test_the_same_as_alone(self, sam: PromptableSam, patient: Fitted) -> None:
        alone = fit_in_groups(sam, seven_records(), [1] * 7, PATIENT)
        assert_same_results(sam, seven_records(), patient, alone)

    def test_a_stopped_head_is_that_of_its_last_step(self, sam: PromptableSam, patient: Fitted) -> None:
        """By the plainest loop: the rate decays over the whole budget, the loop ends at the step of the stop."""
        for record, head, result in zip(seven_records(), *patient, strict=True):
            expected = initial_head(FORM, 0, record.id)
            optimizer = torch.optim.AdamW(expected.parameters(), lr=1.0, weight_decay=PATIENT.weight_decay)
            for step in range(result.steps):
                optimizer.param_groups[0]["lr"] = 2e-2 * (1 + math.cos(math.pi * step / 10)) / 2
                optimizer.zero_grad()
                objective_of(sam, expected, record).backward()
                optimizer.step()
            torch.testing.assert_close(mask(sam, head, record), mask(sam, expected, record), rtol=1e-3, atol=1e-3)

    def test_without_patience_the_budget_is_used(self, sam: PromptableSam) -> None:
        _, [result] = fit(sam, [random_record("e", 0, 0)], replace(PATIENT, patience=0, steps=5))
        assert (result.stopped, result.steps) == ("budget", 5)

    @pytest.mark.parametrize(
        ("totals", "flat"),
        [
            ([1.0, 1.0, 1.0], False),  # nothing to compare with yet
            ([1.0, 1.0, 1.0, 1.0], True),
            ([1.0, 1.0, 1.0, 0.8], False),
            ([1.0, 1.0, 1.0, 0.9], True),  # by 0.1 and no more
            ([1.0, 0.97, 0.94, 0.91], True),
            ([1.0, 0.8, 1.5, 1.6], False),  # the lowest counts, not the last
            ([0.5, 1.0, 0.9, 0.8], True),  # and the lowest before
            ([2.0, 1.0, 1.0, 1.0, 1.0], True),
        ],
    )
    def test_flat(self, totals: list[float], flat: bool) -> None:
        assert is_flat(totals, 3, 0.1000001) is flat


def objective_of(sam: PromptableSam, head: PromptReweighter, record: PromptRecord) -> Tensor:
    """`bounded` on one image, written out: the mask logit at a token centre is the mean of the middle four pixels."""
    logits = occlusion_logits(sam, head, collate([record]))[0]
    at_token = torch.stack([logits[1::4, 1::4], logits[1::4, 2::4], logits[2::4, 1::4], logits[2::4, 2::4]]).mean(dim=0)
    q = at_token.flatten().sigmoid()
    total = 0 * logits.sum()
    if len(record.occlusion_prompts):
        total = total - q[record.occlusion_prompts].log().mean()
    if len(record.face_prompts):
        face = q[record.face_prompts]
        total = total - (1 - face).log().mean() + 0.5 * (10 * (face - 0.5)).sigmoid().mean()
    return total


class TestInitialHead:
    def test_follows_from_seed_and_id_alone(self) -> None:
        before = torch.get_rng_state()
        first = initial_head(FORM, 0, "a")
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert_equal_weights(weights(first), weights(initial_head(FORM, 0, "a")))
        for seed, name in ((0, "b"), (1, "a")):
            other = initial_head(FORM, seed, name).layers[0].attention.in_proj_weight
            assert not torch.equal(other, first.layers[0].attention.in_proj_weight)

    def test_draws_what_published_runs_drew(self) -> None:
        torch.manual_seed(derive_seed(7, "overfit", "00042") % 2**31)
        assert_equal_weights(weights(PromptReweighter(FORM)), weights(initial_head(FORM, 7, "00042")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 1.0}, r"learning_rate must lie in \(0, 1\)"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"min_improvement": -1e-9}, "min_improvement must be at least 0"),
        ({"min_improvement": math.nan}, "min_improvement must be at least 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PerImageConfig(**settings)
