import pytest
import torch

from s3pot.baselines import persam
from s3pot.baselines.persam import extreme_points, fit_mask_weights, visible_face_persam, visible_face_persam_f
from s3pot.baselines.stored_face import StoredFace
from s3pot.sam.promptable import PromptableSam
from tests.stand_ins import tiny_sam


def test_extreme_points_are_the_best_and_the_worst_valid_place() -> None:
    likeness, valid = torch.zeros(64), torch.ones(64, dtype=torch.bool)
    likeness[[10, 11, 40]] = torch.tensor([0.9, 0.8, -0.5])
    likeness[[5, 6]] = torch.tensor([2.0, -2.0])
    valid[[5, 6]] = False
    points, polarity = extreme_points(tiny_sam(), likeness, valid, 2, 1)
    # Tokens of 8 px; SAM adds half a pixel itself.
    assert points.tolist() == [[2 * 8 + 3.5, 8 + 3.5], [3 * 8 + 3.5, 8 + 3.5], [3.5, 5 * 8 + 3.5]]
    assert polarity.tolist() == [1, 1, 0]


def test_the_mixture_fits_the_example() -> None:
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[4:12, 4:12] = True
    right = torch.where(wanted, 4.0, -4.0)
    logits = torch.stack([-right, right, torch.zeros(16, 16)])
    weights = fit_mask_weights(logits, wanted)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[1] > weights[0] + 0.5
    assert torch.equal(torch.einsum("m,mhw->hw", weights, logits) > 0, wanted)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the decoder is asked; it answers with everything above the first point's row."""
    calls: list[dict[str, object]] = []

    def answer(
        sam: PromptableSam, tokens: torch.Tensor, points: torch.Tensor, polarity: torch.Tensor, **more: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append({"points": points.tolist(), "polarity": polarity.tolist(), "tokens": tokens} | more)
        number = int(sam.sam.mask_decoder.num_mask_tokens)
        logits = torch.full((number, 32, 32), -1.0)
        for mask in range(number):
            logits[mask, 4:28, 12 - mask : 28] = 1.0
        return logits, torch.arange(number).float()

    monkeypatch.setattr(persam, "decode_prompts", answer)
    return calls


def test_persam_of_the_nano_sam_asks_once_with_guidance(
    half_covered: StoredFace, asked: list[dict[str, object]]
) -> None:
    found = visible_face_persam(tiny_sam(), half_covered)
    assert int(found.sum()) == 24 * 16
    [call] = asked
    # The example is all `f`: a visible face token is most like it, and what is not face least.
    (x, y), (other_x, other_y) = call["points"]  # type: ignore[misc]
    assert half_covered.image_tokens[1, int(y // 8), int(x // 8)] == 1.0
    assert half_covered.image_tokens[1, int(other_y // 8), int(other_x // 8)] == 0.0
    guidance = call["guidance"]
    assert torch.equal(guidance.target, half_covered.reference_tokens[:, 3, 3])  # type: ignore[attr-defined]
    visible = half_covered.image_tokens[1].flatten() == 1.0
    assert guidance.similarity[visible].min() > 0.5 > guidance.similarity[~visible].max()  # type: ignore[attr-defined]


def with_four_mask_tokens(monkeypatch: pytest.MonkeyPatch) -> PromptableSam:
    sam = tiny_sam()
    monkeypatch.setattr(sam.sam.mask_decoder, "num_mask_tokens", 4)
    return sam


def test_persam_of_a_sam_that_knows_masks_refines_twice(
    half_covered: StoredFace, asked: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = visible_face_persam(with_four_mask_tokens(monkeypatch), half_covered)
    assert [sorted(set(call) - {"points", "polarity", "tokens"}) for call in asked] == [
        ["guidance"],
        ["mask_logits"],
        ["box", "mask_logits"],
    ]
    # The second answer's best mask, number 3, is columns 9 to 27 of 32: its box in pixels of 64.
    assert asked[2]["box"].tolist() == [18.0, 8.0, 56.0, 56.0]  # type: ignore[attr-defined]
    assert int(found.sum()) == 24 * 19


def test_persam_f_learns_on_the_reference_alone(
    half_covered: StoredFace, asked: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def fitted(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        seen.append(wanted)
        return torch.tensor([1.0, 0.0, 0.0])

    monkeypatch.setattr(persam, "fit_mask_weights", fitted)
    found = visible_face_persam_f(tiny_sam(), half_covered)
    assert [len(call["points"]) for call in asked] == [1, 2, 10, 1, 2, 10]  # type: ignore[arg-type]
    assert all(torch.equal(call["tokens"], half_covered.reference_tokens) for call in asked[:3])  # type: ignore[arg-type]
    assert all(torch.equal(call["tokens"], half_covered.image_tokens) for call in asked[3:])  # type: ignore[arg-type]
    [wanted] = seen
    assert int(wanted.sum()) == 24 * 24 - 4, "the completed face; interpolation cuts its corners"
    assert int(found.sum()) == 24 * 16
    asked.clear()
    visible_face_persam_f(with_four_mask_tokens(monkeypatch), half_covered)
    assert ["box" in call for call in asked] == [False, False, True, True]
