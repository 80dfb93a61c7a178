"""Which cells follow from a sweep's data, and that everything wrong is said before anything starts."""

from pathlib import Path
from typing import Any

import pytest

from ray_jobs.sweep_config import SearchRange, SweepConfig, plan_cells
from s3pot.config import ConfigError, apply_overrides, parse

VARIANT, LAM, ALPHA = "objective.variant", "objective.lam", "objective.alpha"
SPACE = {LAM: {"low": 0.1, "high": 10.0, "log": True}, "training.weight_decay": {"low": 0.0, "high": 0.2}}
KIND, TAU = "chain.prefix.selector.kind", "chain.prefix.selector.tau"


def config(**values: Any) -> SweepConfig:
    return parse(SweepConfig, {"title": "x"} | values, where="test")


def problems(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        plan_cells(config(**values))
    return str(caught.value)


class TestCells:
    def test_every_combination_in_the_order_of_the_grid(self) -> None:
        plan = plan_cells(config(grid={VARIANT: ["paper", "bounded"], LAM: [1.0, 0.5]}))
        assert plan.axes == (VARIANT, LAM)
        found = [(cell.settings.objective.variant, cell.settings.objective.lam) for cell in plan.cells]
        assert found == [("paper", 1.0), ("paper", 0.5), ("bounded", 1.0), ("bounded", 0.5)]
        assert plan.cells[0].label == "variant=paper, lam=1.0"
        assert plan.base == plan.cells[0].id
        assert len({cell.id for cell in plan.cells}) == 4

    def test_named_cells_times_the_grid(self) -> None:
        plan = plan_cells(
            config(
                grid={"reweighter": ["off", "on"]},
                cells={"greedy": {}, "fixed": {KIND: "threshold", TAU: 0.7}},
                compare_to={"name": "greedy", "reweighter": "on"},
            )
        )
        found = [(c.settings.reweighter, c.name, c.settings.chain.prefix.selector.kind) for c in plan.cells]
        assert found == [
            *(("off", "greedy", "greedy"), ("off", "fixed", "threshold")),
            *(("on", "greedy", "greedy"), ("on", "fixed", "threshold")),
        ]
        assert plan.axes == ("reweighter", KIND, TAU)
        assert plan.base == plan.cells[2].id
        assert [cell.values[TAU] for cell in plan.cells] == [None, 0.7, None, 0.7], "greedy reads no threshold"
        assert plan.cells[1].label == "fixed, reweighter=off"

    def test_base_values_stay(self) -> None:
        plan = plan_cells(config(base={"objective": {"lam": 2.0}, "training": {"epochs": 3}}, grid={ALPHA: [1.0, 5.0]}))
        assert {(c.settings.objective.lam, c.settings.training.epochs) for c in plan.cells} == {(2.0, 3)}

    def test_no_axis_is_one_cell(self) -> None:
        plan = plan_cells(config(seeds=[4, 5]))
        assert [(cell.label, seed, s.training.seed) for cell, seed, s in plan.trials((4, 5))] == [
            ("base", 4, 4),
            ("base", 5, 5),
        ]

    def test_a_cell_that_trains_nothing_runs_once(self) -> None:
        plan = plan_cells(config(grid={"reweighter": ["off", "on"]}))
        assert [(c.settings.reweighter, seed) for c, seed, _ in plan.trials((3, 1))] == [
            ("off", 3),
            ("on", 3),
            ("on", 1),
        ]

    def test_few_cells_keep_the_compared_one(self) -> None:
        grid = {LAM: [0.1, 0.2, 0.3, 0.4]}
        plan = plan_cells(config(grid=grid, compare_to={LAM: 0.3}, most_cells=2))
        assert [cell.settings.objective.lam for cell in plan.cells] == [0.1, 0.3]

    def test_overrides_of_the_command_line_reach_dotted_axes(self) -> None:
        mapping = apply_overrides({"title": "x", "grid": {LAM: [0.1, 0.2]}}, ["grid.objective.lam=[0.7]"])
        [cell] = plan_cells(parse(SweepConfig, mapping, where="test")).cells
        assert cell.settings.objective.lam == 0.7


class TestSearch:
    def test_samples_lie_in_their_ranges_and_start_with_the_base(self) -> None:
        plan = plan_cells(config(search={"space": SPACE, "samples": 40}))
        assert (len(plan.cells), plan.axes) == (40, (LAM, "training.weight_decay"))
        first, *rest = plan.cells
        assert (first.values[LAM], first.values["training.weight_decay"]) == (0.5, 0.01)
        lams = sorted(cell.values[LAM] for cell in rest)
        assert 0.1 <= lams[0] < 0.3
        assert 3.0 < lams[-1] <= 10.0
        assert 0.4 < lams[len(lams) // 2] < 2.5, "even in the logarithm, whose middle is 1"
        assert plan.base == first.id

    def test_the_draw_is_the_same_and_longer_searches_go_on_from_shorter_ones(self) -> None:
        ids = {n: [c.id for c in plan_cells(config(search={"space": SPACE, "samples": n})).cells] for n in (4, 9)}
        assert ids[9][:4] == ids[4]
        other = plan_cells(config(search={"space": SPACE, "samples": 4, "seed": 1}))
        assert [cell.id for cell in other.cells][1:] != ids[4][1:]

    def test_a_range_is_a_range(self) -> None:
        for wrong in ({"low": 1.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True}):
            with pytest.raises(ValueError, match="low must be"):
                SearchRange(**wrong)

    def test_values_out_of_range_are_named(self) -> None:
        text = problems(search={"space": {"training.learning_rate": {"low": 0.5, "high": 3.0}}, "samples": 20})
        assert "learning_rate must lie in (0, 1)" in text

    def test_it_needs_something_to_train(self) -> None:
        with pytest.raises(ConfigError, match="reweighter is off"):
            config(search={"space": SPACE}, base={"reweighter": "off"})
        with pytest.raises(ConfigError, match="never val"):
            config(search={"space": SPACE}, evaluate_on="val")
        with pytest.raises(ConfigError, match="takes the place"):
            config(search={"space": SPACE}, grid={LAM: [1.0]})


class TestProblems:
    def test_all_of_them_at_once(self) -> None:
        text = problems(grid={"objective.lamb": [1.0], "training.epochs": [0, 2], VARIANT: ["papr"]})
        assert "objective.lamb: unknown key; did you mean 'lam'?" in text
        assert "training.epochs: epochs must be at least 1" in text or "objective" in text
        assert "did you mean 'paper'?" in text

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"grid": {KIND: ["greedy", "threshold"], TAU: [0.5]}}, "the selector greedy has no fixed threshold"),
            ({"grid": {ALPHA: [5.0]}, "base": {"objective": {"variant": "released"}}}, "released has no alpha"),
            ({"grid": {"objective.epsilon": [1e-3]}, "base": {"objective": {"variant": "bounded"}}}, "variant paper"),
            ({"grid": {LAM: [0.0, 1.0], ALPHA: [5.0, 10.0]}}, "the face penalty is off"),
            ({"grid": {LAM: [1.0]}, "base": {"objective": {"face_penalty": False}}}, "the face penalty is off"),
            ({"grid": {"reweighter": ["off", "on"], LAM: [1.0, 2.0]}}, "nothing is trained"),
            ({"grid": {"reweighter": ["off"], "head.num_layers": [1, 2]}}, "nothing is trained"),
            (
                {"grid": {"chain.prefix.initial_prompt": ["random", "most_similar"]}},
                "feature enhancement, which is off",
            ),
            ({"grid": {"chain.prefix.seed": [0, 1]}}, "nothing is drawn by chance"),
            ({"grid": {"chain.prefix.fresh_noise": [True, False]}}, "generator=e4s"),
            ({"grid": {"training.seed": [0, 1]}}, "list them under seeds"),
            ({"grid": {"chain.sam": ["nano", "vit_b"]}}, "one sweep per model"),
            ({"grid": {LAM: 0.5}}, "expected a list of values"),
            ({"grid": {LAM: []}}, "expected a list of values"),
            ({"grid": {LAM: [0.5, 0.5]}}, "the same value twice"),
            ({"cells": {"a": {}, "b": {LAM: 0.5}}}, "the cells 'a' and 'b' are the same"),
            (
                {
                    "cells": {
                        "none": {f"objective.{t}": False for t in ("recall_occlusion", "recall_face", "face_penalty")}
                    }
                },
                "must be on, got none",
            ),
            ({"grid": {LAM: [1.0]}, "compare_to": {ALPHA: 1.0}}, "objective.alpha: no axis of this sweep"),
            ({"grid": {LAM: [1.0]}, "compare_to": {LAM: 2.0}}, "0 cells have"),
            ({"grid": {LAM: [1.0, 2.0], ALPHA: [1.0, 2.0]}, "compare_to": {LAM: 2.0}}, "2 cells have"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, values: dict[str, Any], said: str) -> None:
        assert said in problems(**values)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"seeds": []}, "seeds must be"),
            ({"seeds": [1, 1]}, "seeds must be"),
            ({"metric": "iou"}, "metric must be one of"),
            ({"train_images": -1}, "train_images must be at least 0"),
            ({"gpus_per_trial": 2.0}, "gpus_per_trial must lie"),
            ({"evaluate_on": "head"}, "evaluate_on: expected"),
            ({"train_on": "dev"}, "must be different sets"),
        ],
    )
    def test_ranges(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            config(**values)
        assert said in str(caught.value)


def test_paths_are_paths() -> None:
    assert config(data="somewhere").data == Path("somewhere")
