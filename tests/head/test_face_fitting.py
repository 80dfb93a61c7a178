import pytest
import torch

from s3pot.config import ConfigError, parse
from s3pot.head.face_fitting import FittingConfig, fitted_head
from s3pot.head.objectives import ObjectiveConfig, objective_terms, sample_mask_logits
from s3pot.head.records import PromptRecord, collate, occlusion_logits
from s3pot.head.reweighter import PromptReweighter
from s3pot.sam.promptable import PromptableSam
from tests.stand_ins import random_record, small_reweighter, tiny_sam


def objective(head: PromptReweighter, sam: PromptableSam, record: PromptRecord) -> float:
    batch = collate([record])
    logits = sample_mask_logits(occlusion_logits(sam, head, batch), batch.prompt_ids, sam.token_grid)
    return objective_terms(logits, batch.polarity, batch.prompt_valid, ObjectiveConfig()).total.item()


def test_a_copy_fits_the_face_and_the_head_stays_as_it_was() -> None:
    sam, head, record = (
        tiny_sam(),
        small_reweighter(trained_looking=True).requires_grad_(False),
        random_record("a", 6, 20),
    )
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    fitted = fitted_head(head, sam, record, FittingConfig(steps=30))
    assert objective(fitted, sam, record) < objective(head, sam, record) - 0.01
    for name, tensor in head.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not fitted.training
    assert not any(parameter.requires_grad for parameter in [*fitted.parameters(), *head.parameters()])
    again = fitted_head(head, sam, record, FittingConfig(steps=30))
    assert all(torch.equal(one, other) for one, other in zip(fitted.parameters(), again.parameters(), strict=True))


def test_settings_have_an_identity() -> None:
    assert FittingConfig().identity == FittingConfig(steps=60).identity
    others = [
        FittingConfig(steps=61),
        FittingConfig(learning_rate=2e-3),
        FittingConfig(objective=ObjectiveConfig(variant="bounded")),
    ]
    assert len({config.identity for config in [FittingConfig(), *others]}) == 4


@pytest.mark.parametrize("values", [{"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": 1.0}])
def test_ranges(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        parse(FittingConfig, values, where="test")
