import numpy as np
import pytest
import torch

from s3pot.baselines import gfsam
from s3pot.baselines.gfsam import Matches, grown, match, visible_face_gfsam
from s3pot.baselines.stored_face import StoredFace
from tests.stand_ins import tiny_sam


def test_visible_face_tokens_are_the_points(half_covered: StoredFace) -> None:
    share = torch.zeros(8, 8)
    share[1:7, 1:7] = 1.0
    found = match(half_covered.image_tokens, half_covered.reference_tokens, share.flatten(), half_covered.valid)
    visible = {row * 8 + col for row in range(1, 7) for col in range(3, 7)}
    # As many points as the likenesses sum to, rounded down: all but one.
    assert set(found.points.tolist()) < visible
    assert len(found.points) == len(visible) - 1
    assert set((found.margin > 0).nonzero().flatten().tolist()) == visible


def slow_match(image: np.ndarray, reference: np.ndarray, share: np.ndarray) -> tuple[list[int], list[float]]:
    """The formulas of GFSAM.predict, token by token."""
    tokens = image.shape[1]

    def cosine(i: int, j: int) -> float:
        a, b = image[:, i], reference[:, j]
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def prior(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = [sum(cosine(i, j) * weights[j] for j in range(tokens)) / weights.sum() for i in range(tokens)]
        most = [max(cosine(i, j) * weights[j] for j in range(tokens)) for i in range(tokens)]
        return np.array(mean), np.array(most)

    def stretched(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (values.max() - values.min() + 1e-6)

    mean, most = prior(share)
    rest, _ = prior(1 - share)
    alike = stretched(mean * most)
    wanted = np.where(stretched(rest) > alike, 0, alike)
    best = np.argsort(-wanted)[: int(wanted.sum())]
    margin = mean**2 - rest * (mean.max() + mean.min()) / 2
    return sorted(best.tolist()), margin.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formulas_token_by_token(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, reference = rng.standard_normal((2, 6, 4, 4)).astype(np.float32)
    share = rng.random(16).astype(np.float32)
    found = match(*(torch.from_numpy(array) for array in (image, reference, share)), torch.ones(16, dtype=torch.bool))
    points, margin = slow_match(image.reshape(6, 16), reference.reshape(6, 16), share)
    assert found.points.tolist() == points
    np.testing.assert_allclose(found.margin, margin, atol=1e-5)


def test_a_mask_joins_as_long_as_it_adds_mostly_face() -> None:
    # Tokens 0-3 are face, 4-7 are not. Three masks hold each other's points, one stands alone.
    margin = torch.tensor([0.5, 0.4, 0.3, 0.2, -0.1, -0.1, -0.1, -0.1])
    covered = torch.tensor(
        [
            [1.0, 1, 0, 0, 0, 0, 0, 0],  # face
            [1.0, 1, 1, 0, 1, 1, 0, 0],  # adds one of face and two of the rest
            [0.0, 1, 1, 1, 1, 0, 0, 0],  # adds two of face and one of the rest
            [0.0, 0, 0, 0, 0, 0, 1, 1],  # nothing of face
        ]
    )
    found = Matches(points=torch.tensor([0, 1, 2, 6]), margin=margin)
    assert sorted(grown(covered, found).tolist()) == [0, 2]
    alone = Matches(points=torch.tensor([6]), margin=margin)
    assert grown(covered[3:], alone).tolist() == [0], "without any the best one"


def test_the_union_of_the_masks_is_the_face(half_covered: StoredFace, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_token_each(sam: object, tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(ids), 32, 32), -1.0)
        for place, (row, col) in enumerate(divmod(token, 8) for token in ids.tolist()):
            logits[place, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4] = 1.0
        return logits

    monkeypatch.setattr(gfsam, "click_masks", one_token_each)
    found = visible_face_gfsam(tiny_sam(), half_covered)
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[4:28, 12:28] = True
    assert not (found & ~expected).any()
    assert int(found.sum()) == 23 * 16, "23 of the 24 visible tokens are points"
