import pytest
import torch

from s3pot.baselines.automatic_masks import contrasts, joined_masks, propose, stability_score
from s3pot.baselines.stored_face import StoredFace
from tests.stand_ins import tiny_sam


def proposal(*columns: int, logit: float = 5.0) -> torch.Tensor:
    """A mask over whole columns of tokens, four decoder pixels each."""
    logits = torch.full((32, 32), -5.0)
    for column in columns:
        logits[:, 4 * column : 4 * column + 4] = logit
    return logits


def test_stability_is_the_iou_of_two_thresholds() -> None:
    logits = torch.tensor([[[2.0, 0.0], [-0.5, -2.0]], [[-9.0, -9.0], [-9.0, -9.0]]])
    assert stability_score(logits).tolist() == pytest.approx([1 / 3, 0.0])


def test_contrast_by_hand() -> None:
    values = torch.tensor([1.0, 0.5, 0.0, 0.3])
    in_face = torch.tensor([[True, True, False, False], [False, False, False, True]])
    torch.testing.assert_close(contrasts(values, in_face), torch.tensor([0.75 - 0.15, 0.3 - 0.5]))


def test_masks_that_contrast_are_joined(half_covered: StoredFace) -> None:
    # Columns 1 and 2 are covered: two masks find one each, one both and a third, one visible face.
    proposals = torch.stack([proposal(4, 5), proposal(2), proposal(1), proposal(1, 2, 3), proposal(2, 3, 4, 5, 6)])
    found = joined_masks(half_covered, proposals)
    assert torch.equal(found, (proposal(1, 2) > 0))


def test_unstable_masks_and_masks_without_contrast_are_left_out(half_covered: StoredFace) -> None:
    faint = torch.stack([proposal(1, 2, logit=0.5)])
    assert not joined_masks(half_covered, faint).any()
    assert not joined_masks(half_covered, torch.stack([proposal(4, 5), proposal(1, 2, 3, 4, 5, 6)])).any()
    assert not joined_masks(half_covered, torch.empty(0, 32, 32)).any()


@pytest.mark.parametrize(("grid", "clicks"), [(8, 36), (4, 9), (16, 36)])
def test_clicks_lie_in_the_face_on_a_grid(half_covered: StoredFace, grid: int, clicks: int) -> None:
    assert propose(tiny_sam(), half_covered, grid).shape == (clicks, 32, 32)
