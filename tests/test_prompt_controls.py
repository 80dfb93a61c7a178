import numpy as np
import torch

from s3pot.prompt_controls import other_prompts, random_prompts, true_prompts
from tests.stand_ins import random_record

RECORD = random_record("a", 5, 12)


def together(record: object) -> list[int]:
    return sorted([*record.occlusion_prompts.tolist(), *record.face_prompts.tolist()])  # type: ignore[attr-defined]


def test_random_prompts_are_as_many_and_follow_the_seed() -> None:
    first, again, other = (random_prompts(RECORD, seed) for seed in (0, 0, 1))
    assert len(first.occlusion_prompts) == 5
    assert together(first) == together(RECORD)
    assert torch.equal(first.occlusion_prompts, again.occlusion_prompts)
    assert not torch.equal(first.occlusion_prompts, other.occlusion_prompts)


def test_other_prompts_are_those_that_fall_into_this_face() -> None:
    other = random_record("b", 20, 3)
    found = other_prompts(RECORD, other)
    assert set(found.occlusion_prompts.tolist()) == set(together(RECORD)) & set(other.occlusion_prompts.tolist())
    assert together(found) == together(RECORD)


def test_true_prompts_are_face_tokens_that_are_mostly_covered() -> None:
    truth = np.zeros((64, 64), dtype=bool)
    truth[:, :36] = True  # tokens of four columns, and half of the fifth
    found = true_prompts(RECORD, truth, (8, 8))
    assert set(found.occlusion_prompts.tolist()) == {token for token in together(RECORD) if token % 8 < 4}
    assert together(found) == together(RECORD)
