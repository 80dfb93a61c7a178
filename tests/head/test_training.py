"""One process, on an SAM of 8 x 8 tokens."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s3pot.head.epoch_report import EpochReport
from s3pot.head.objectives import ObjectiveConfig, objective_terms, sample_mask_logits
from s3pot.head.records import PromptRecord, collate, occlusion_logits
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import TrainingConfig, prompt_counts, train_head
from s3pot.sam.promptable import PromptableSam
from tests.head_training import (
    FAST,
    OBJECTIVE,
    SIZES,
    assert_equal_weights,
    assert_same_function,
    seven_records,
    weights,
)
from tests.stand_ins import random_record, small_reweighter, tiny_sam


def learned(reports: list[EpochReport]) -> list[EpochReport]:
    """What the reports say about learning, not about the machine."""
    machine = {"seconds": 0.0, "images_per_second": 0.0, "data_wait": 0.0, "peak_memory": 0.0}
    return [replace(report, **machine) for report in reports]


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return tiny_sam()


class WatchedRecords(list[PromptRecord]):
    """Remembers which images were read, in which order."""

    def __init__(self, records: list[PromptRecord]) -> None:
        super().__init__(records)
        self.read: list[str] = []

    def __getitem__(self, index: Any) -> Any:
        record = super().__getitem__(index)
        self.read.append(record.id)
        return record


class TestLearning:
    @pytest.mark.parametrize("variant", ["paper", "bounded", "released"])
    def test_the_objective_goes_down(self, sam: PromptableSam, variant: Any) -> None:
        config = TrainingConfig(epochs=20, batch_size=2, learning_rate=2e-2)
        records = [random_record("a", 6, 12), random_record("b", 10, 20)]
        reports = train_head(small_reweighter(), sam, records, config, ObjectiveConfig(variant=variant))
        assert len(reports) == 20
        assert reports[-1].total < reports[0].total - 0.03

    def test_equals_a_loop_over_single_images(self, sam: PromptableSam) -> None:
        """One batch holds everything, so that the order does not matter; per-image terms are averaged by hand."""
        config = TrainingConfig(epochs=5, batch_size=7, learning_rate=1e-2)
        trained = small_reweighter()
        reports = train_head(trained, sam, seven_records(), config, OBJECTIVE)

        expected = small_reweighter()
        optimizer = torch.optim.AdamW(expected.parameters(), lr=1.0, weight_decay=config.weight_decay)
        for step in range(5):
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * step / 5)) / 2
            totals = [image_total(expected, sam, record) for record in seven_records()]
            optimizer.zero_grad()
            torch.stack(totals).mean().backward()
            optimizer.step()
            assert reports[step].total == pytest.approx(torch.stack(totals).mean().item(), rel=1e-4)
        assert_same_function(trained, expected)

    def test_only_the_reweighter_changes(self) -> None:
        sam = tiny_sam().requires_grad_(True)  # even when the caller forgot to freeze it
        before = weights(sam)
        reweighter = small_reweighter()
        untrained = weights(reweighter)
        train_head(reweighter, sam, seven_records(), FAST, OBJECTIVE)
        assert_equal_weights(before, weights(sam))
        assert all(parameter.grad is None for parameter in sam.parameters())
        assert all(not torch.equal(untrained[name], tensor) for name, tensor in reweighter.state_dict().items())

    def test_gradient_reaches_every_parameter(self, sam: PromptableSam) -> None:
        reweighter = small_reweighter()
        # From a zero output projection the first step passes no gradient on.
        train_head(reweighter, sam, seven_records(), replace(FAST, epochs=2), OBJECTIVE)
        for name, parameter in reweighter.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 1e-9, name

    def test_frozen_parameters_stay(self, sam: PromptableSam) -> None:
        reweighter = small_reweighter(trained_looking=True)
        norm = reweighter.layers[0].norm.requires_grad_(False)
        before = weights(norm)
        train_head(reweighter, sam, seven_records(), FAST, OBJECTIVE)
        assert_equal_weights(before, weights(norm))

    def test_learning_rate_is_a_cosine_over_all_steps(self, sam: PromptableSam) -> None:
        reports = train_head(small_reweighter(), sam, seven_records(), FAST, OBJECTIVE)
        # 3 steps an epoch, 12 in all; the report shows the last step of its epoch: 2, 5, 8, 11.
        expected = [1e-2 * 0.5 * (1 + math.cos(math.pi * step / 12)) for step in (2, 5, 8, 11)]
        assert [report.learning_rate for report in reports] == pytest.approx(expected)

    def test_the_reweighter_is_left_in_eval_mode(self, sam: PromptableSam) -> None:
        reweighter = small_reweighter()
        train_head(reweighter, sam, seven_records(), FAST, OBJECTIVE)
        assert not reweighter.training


class TestDeterminism:
    def test_same_seed_same_weights_bit_for_bit(self, sam: PromptableSam) -> None:
        runs = []
        for _ in range(2):
            torch.rand(17)  # whatever else drew random numbers meanwhile
            reweighter = small_reweighter()
            reports = train_head(reweighter, sam, seven_records(), FAST, OBJECTIVE)
            runs.append((weights(reweighter), learned(reports)))
        assert_equal_weights(runs[0][0], runs[1][0])
        assert runs[0][1] == runs[1][1]

    def test_every_epoch_reads_every_image_once_in_an_order_of_its_own(self, sam: PromptableSam) -> None:
        records = WatchedRecords(seven_records())
        train_head(small_reweighter(), sam, records, FAST, OBJECTIVE)
        epochs = [tuple(records.read[first : first + 7]) for first in range(0, 28, 7)]
        assert all(sorted(epoch) == sorted(SIZES) for epoch in epochs)
        assert len(set(epochs)) == 4

    def test_the_seed_decides_the_order(self, sam: PromptableSam) -> None:
        orders = []
        for seed in (0, 0, 1):
            records = WatchedRecords(seven_records())
            train_head(small_reweighter(), sam, records, replace(FAST, epochs=1, seed=seed), OBJECTIVE)
            orders.append(records.read)
        assert orders[0] == orders[1] != orders[2]


class TestResume:
    def test_equals_an_uninterrupted_training(self, sam: PromptableSam) -> None:
        whole, states = small_reweighter(), []
        reports = train_head(
            whole,
            sam,
            seven_records(),
            FAST,
            OBJECTIVE,
            on_epoch=lambda report, state: states.append((weights(whole), state)),
        )
        for after in range(4):
            resumed = small_reweighter(seed=9)
            resumed.load_state_dict(states[after][0])
            rest = train_head(resumed, sam, seven_records(), FAST, OBJECTIVE, resume=states[after][1])
            assert learned(rest) == learned(reports)[after + 1 :]
            assert_equal_weights(weights(resumed), weights(whole))

    def test_a_state_is_a_snapshot(self, sam: PromptableSam) -> None:
        """Neither the training that made it nor one that starts from it may change it."""
        states: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []

        def keep(_: EpochReport, state: dict[str, Any]) -> None:
            states.append(state)
            kept.append(copy.deepcopy(state))

        train_head(small_reweighter(), sam, seven_records(), FAST, OBJECTIVE, on_epoch=keep)
        train_head(small_reweighter(), sam, seven_records(), FAST, OBJECTIVE, resume=states[0])
        for state, copied in zip(states, kept, strict=True):
            assert str(state) == str(copied)

    def test_survives_a_file_that_is_read_without_running_code(self, sam: PromptableSam, tmp_path: Path) -> None:
        config = replace(FAST, epochs=1)
        train_head(
            small_reweighter(),
            sam,
            seven_records(),
            config,
            OBJECTIVE,
            on_epoch=lambda _, state: torch.save(state, tmp_path / "state.pt"),
        )
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert state["epoch"] == 0
        assert train_head(small_reweighter(), sam, seven_records(), config, OBJECTIVE, resume=state) == []

    def test_evaluation_between_epochs_does_not_leave_the_head_in_eval_mode(self, sam: PromptableSam) -> None:
        reweighter, modes = small_reweighter(), []

        class Watched(list[PromptRecord]):
            def __getitem__(self, index: Any) -> Any:
                modes.append(reweighter.training)
                return super().__getitem__(index)

        train_head(reweighter, sam, Watched(seven_records()), FAST, OBJECTIVE, on_epoch=lambda *_: reweighter.eval())
        assert all(modes)


class TestEmptyCases:
    def test_an_image_without_prompts_counts_and_contributes_nothing(self, sam: PromptableSam) -> None:
        config = TrainingConfig(epochs=1, batch_size=2)
        a, empty = random_record("a", 6, 12), random_record("e", 0, 0)
        [alone] = train_head(small_reweighter(), sam, [a], config, OBJECTIVE)
        [both] = train_head(small_reweighter(), sam, [a, empty], config, OBJECTIVE)
        assert both.total == pytest.approx(alone.total / 2, rel=1e-5)
        assert (alone.empty_occlusion, alone.empty_face) == (0, 0)
        assert (both.empty_occlusion, both.empty_face) == (0.5, 0.5)

    def test_nothing_but_empty_images_changes_nothing(self, sam: PromptableSam) -> None:
        reweighter = small_reweighter(trained_looking=True)
        before = weights(reweighter)
        config = replace(FAST, weight_decay=0.0)
        reports = train_head(reweighter, sam, [random_record(name, 0, 0) for name in "xyz"], config, OBJECTIVE)
        assert [report.total for report in reports] == [0.0] * 4
        assert_equal_weights(before, weights(reweighter))

    def test_shares_of_empty_sets_are_reported(self, sam: PromptableSam) -> None:
        report = train_head(small_reweighter(), sam, seven_records(), FAST, OBJECTIVE)[0]
        assert report.empty_occlusion == pytest.approx(2 / 7)
        assert report.empty_face == pytest.approx(2 / 7)

    def test_no_records(self, sam: PromptableSam) -> None:
        with pytest.raises(ValueError, match="no records"):
            train_head(small_reweighter(), sam, [], FAST, OBJECTIVE)


def test_a_non_finite_objective_names_its_images(sam: PromptableSam) -> None:
    spoilt = random_record("spoilt", 3, 3)
    spoilt.image_tokens.fill_(float("nan"))
    reweighter = small_reweighter()
    before = weights(reweighter)
    records = [random_record("fine", 3, 3), spoilt]
    with pytest.raises(FloatingPointError, match="spoilt") as raised:
        train_head(reweighter, sam, records, TrainingConfig(epochs=1, batch_size=2), OBJECTIVE)
    assert "fine" not in str(raised.value)
    assert_equal_weights(before, weights(reweighter))


class TestAccumulation:
    @pytest.mark.parametrize("parts", [2, 3, 6])
    def test_learns_the_same(self, sam: PromptableSam, parts: int) -> None:
        config = replace(FAST, batch_size=6)
        whole, accumulated = small_reweighter(), small_reweighter()
        expected = train_head(whole, sam, seven_records(), config, OBJECTIVE)
        reports = train_head(accumulated, sam, seven_records(), replace(config, accumulate=parts), OBJECTIVE)
        assert_same_function(accumulated, whole)
        for report, other in zip(reports, expected, strict=True):
            assert report.total == pytest.approx(other.total, rel=1e-5)

    def test_takes_fewer_images_at_once(self, sam: PromptableSam, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []

        def watched(records: list[PromptRecord], device: torch.device) -> Any:
            sizes.append(len(records))
            return collate(records, device)

        monkeypatch.setattr("s3pot.head.training.collate", watched)
        config = replace(FAST, epochs=1, batch_size=6, accumulate=3)
        train_head(small_reweighter(), sam, seven_records(), config, OBJECTIVE)
        assert sizes == [2, 2, 2, 1]


class TestPrecision:
    def test_bf16_learns_much_the_same(self, sam: PromptableSam) -> None:
        exact, rounded = small_reweighter(), small_reweighter()
        expected = train_head(exact, sam, seven_records(), FAST, OBJECTIVE)
        reports = train_head(rounded, sam, seven_records(), replace(FAST, precision="bf16"), OBJECTIVE)
        assert learned(reports) != learned(expected)
        for report, other in zip(reports, expected, strict=True):
            assert report.total == pytest.approx(other.total, rel=0.02)
        assert_same_function(rounded, exact, tolerance=0.1)

    def test_weights_and_loss_stay_in_fp32(self, sam: PromptableSam, monkeypatch: pytest.MonkeyPatch) -> None:
        """bf16 has three digits: an objective in it would be one of few values."""
        dtypes = set()

        def watched(mask_logits: Tensor, *others: Any) -> Tensor:
            dtypes.add((mask_logits.dtype, torch.is_autocast_enabled("cpu")))
            return sample_mask_logits(mask_logits, *others)

        monkeypatch.setattr("s3pot.head.training.sample_mask_logits", watched)
        reweighter = small_reweighter()
        config = replace(FAST, epochs=1, precision="bf16")
        train_head(reweighter, sam, seven_records(), config, OBJECTIVE)
        assert dtypes == {(torch.float32, False)}
        assert {parameter.dtype for parameter in reweighter.parameters()} == {torch.float32}
        assert {parameter.grad.dtype for parameter in reweighter.parameters()} == {torch.float32}


def test_no_global_random_number_is_drawn(sam: PromptableSam) -> None:
    """So a state to resume from needs no state of PyTorch's generator."""
    reweighter = small_reweighter()
    before = torch.get_rng_state()
    train_head(reweighter, sam, seven_records(), FAST, OBJECTIVE)
    assert torch.equal(torch.get_rng_state(), before)


def test_waiting_for_records_is_told_apart(sam: PromptableSam, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only moves while records are read, and by as much while a step is taken."""
    now = [0.0]
    monkeypatch.setattr("s3pot.head.epoch_report.time.monotonic", lambda: now[0])

    class Slow(list[PromptRecord]):
        def __getitem__(self, index: Any) -> Any:
            now[0] += 3.0
            return super().__getitem__(index)

    def slow_step(*given: Any) -> Tensor:
        now[0] += 7.0
        return sample_mask_logits(*given)

    monkeypatch.setattr("s3pot.head.training.sample_mask_logits", slow_step)
    [report] = train_head(small_reweighter(), sam, Slow(seven_records()), replace(FAST, epochs=1), OBJECTIVE)
    assert report.seconds == 7 * 3.0 + 3 * 7.0
    assert report.data_wait == pytest.approx(0.5)
    assert report.images_per_second == pytest.approx(7 / 42)


def image_total(reweighter: PromptReweighter, sam: PromptableSam, record: PromptRecord) -> Tensor:
    """The objective of one image, in a batch of its own."""
    batch = collate([record])
    logits = sample_mask_logits(occlusion_logits(sam, reweighter, batch), batch.prompt_ids, sam.token_grid)
    return objective_terms(logits, batch.polarity, batch.prompt_valid, OBJECTIVE).total[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", 1.0),
        ("weight_decay", -0.1),
        ("accumulate", 0),
        ("accumulate", 4),  # more parts than images
    ],
)
def test_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        TrainingConfig(**{field: value})


def test_defaults_are_those_of_the_paper() -> None:
    config = TrainingConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (50, 3, 1e-4)


def test_prompt_counts() -> None:
    records = [random_record("a", 3, 9), random_record("b", 0, 4)]
    assert prompt_counts(records) == {"occlusion_prompts": 1.5, "face_prompts": 6.5}
    assert prompt_counts([]) == {"occlusion_prompts": 0.0, "face_prompts": 0.0}
