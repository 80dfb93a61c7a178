"""Ranges, and which keys decide what becomes of an image."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.run_folder import identity
from ray_jobs.train_config import HeadConfig
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.per_image import PerImageConfig

CONFIG = OverfitConfig(store=Path("store"))
# Every key is one or the other; a new one must be thought about.
DECIDES: dict[str, Any] = {
    "store": Path("other"),
    "steps": 7,
    "learning_rate": 0.5,
    "weight_decay": 0.5,
    "patience": 3,
    "min_improvement": 0.5,
    "head": HeadConfig(num_layers=2),
    "objective": ObjectiveConfig(lam=2.0),
    "seed": 4,
}
DOES_NOT: dict[str, Any] = {
    "start_from": Path("head"),  # its content does
    "images": ("a",),
    "limit": 3,
    "retry_failed": True,
    "keep_heads": True,
    "child_runs": True,
    "images_per_trial": 3,
    "together": 2,
    "concurrent": 5,
    "gpus_per_trial": 0.5,
    "name": "name",
    "runs": Path("elsewhere"),
}


def test_every_key_is_known_to_decide_or_not() -> None:
    assert {each.name for each in fields(OverfitConfig)} == {*DECIDES, *DOES_NOT, "worst", "of"}


@pytest.mark.parametrize("key", DECIDES)
def test_a_key_that_decides_makes_another_fleet(key: str) -> None:
    changed = replace(CONFIG, **{key: DECIDES[key]})
    assert identity(changed.what_is_optimised()) != identity(CONFIG.what_is_optimised())


@pytest.mark.parametrize("key", DOES_NOT)
def test_how_it_runs_and_on_which_images_does_not(key: str) -> None:
    changed = replace(CONFIG, **{key: DOES_NOT[key]})
    assert identity(changed.what_is_optimised()) == identity(CONFIG.what_is_optimised())


def test_nor_does_the_choice_of_the_worst() -> None:
    changed = replace(CONFIG, worst=3, of=Path("run"))
    assert identity(changed.what_is_optimised()) == identity(CONFIG.what_is_optimised())


def test_optimisation() -> None:
    config = replace(CONFIG, steps=5, learning_rate=0.1, weight_decay=0.2, patience=3, min_improvement=0.4)
    expected = PerImageConfig(steps=5, learning_rate=0.1, weight_decay=0.2, patience=3, min_improvement=0.4)
    assert config.optimisation == expected
    assert CONFIG.optimisation == PerImageConfig()


def test_a_gpu_is_used_when_one_is_reserved() -> None:
    assert CONFIG.device == "cpu"
    assert replace(CONFIG, gpus_per_trial=0.1).device == "cuda"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"limit": -1}, "limit must be at least 0"),
        ({"worst": -1}, "worst must be at least 0"),
        ({"concurrent": -1}, "concurrent must be at least 0"),
        ({"images_per_trial": 0}, "images_per_trial must be at least 1"),
        ({"together": 0}, "together must be at least 1"),
        ({"together": 9}, r"together \(9\) must be at most images_per_trial \(8\)"),
        ({"gpus_per_trial": 1.5}, r"gpus_per_trial must lie in \[0, 1\]"),
        ({"worst": 3}, "worst needs of=RUN"),
        ({"of": Path("run")}, "of needs worst=N"),
        ({"worst": 3, "of": Path("run"), "images": ("a",)}, "worst and images both say which images"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OverfitConfig(store=Path("store"), **settings)
