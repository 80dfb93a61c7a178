"""Seven small images to train a head on, and what it means that two heads are the same."""

import torch
from torch import Tensor

from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.records import PromptRecord
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import TrainingConfig
from tests.stand_ins import random_record

OBJECTIVE = ObjectiveConfig(variant="bounded")
FAST = TrainingConfig(epochs=4, batch_size=3, learning_rate=1e-2)
# Seven images in batches of three: the last batch holds one. One has no prompts at all, two lack one kind.
SIZES = {"a": (3, 9), "b": (8, 20), "c": (0, 12), "d": (5, 5), "e": (0, 0), "f": (6, 0), "g": (10, 30)}


def seven_records() -> list[PromptRecord]:
    return [random_record(name, *sizes) for name, sizes in SIZES.items()]


def weights(reweighter: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in reweighter.state_dict().items()}


def assert_equal_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def assert_same_function(one: PromptReweighter, other: PromptReweighter, tolerance: float = 1e-3) -> None:
    """Compare what two heads do: a key bias has no effect, hence no gradient, and Adam blows its rounding noise up."""
    prompts = torch.randn(1, 40, 32, generator=torch.Generator().manual_seed(3))
    valid = torch.ones(1, 40, dtype=torch.bool)
    with torch.no_grad():
        moved = [each.eval()(prompts, valid) - prompts for each in (one, other)]
    assert moved[1].abs().max() > 1e-2, "a head that learned nothing equals any other"
    torch.testing.assert_close(moved[0], moved[1], rtol=tolerance, atol=tolerance / 10)
