import math

import numpy as np
import pytest

from s3pot.metrics.prompt_quality import prompt_quality, token_share


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_share_of_four_tokens_by_hand():
    covered = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=bool)
    assert token_share(covered, (2, 2)).tolist() == [[0.75, 0.0], [0.0, 1.0]]


def test_cells_of_a_fractional_number_of_pixels():
    covered = np.array([[1, 0, 0]] * 3, dtype=bool)
    # Two cells of 1.5 px: the first column fills 1 of 1.5.
    assert token_share(covered, (2, 2)) == pytest.approx(np.array([[2 / 3, 0], [2 / 3, 0]]))


def test_a_short_side_is_padded_at_the_end():
    assert token_share(np.ones((2, 4), dtype=bool), (4, 4)).tolist() == [[1.0] * 4] * 2 + [[0.0] * 4] * 2
    assert token_share(np.ones((3, 4), dtype=bool), (2, 2)).tolist() == [[1.0, 1.0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("shape", "grid"), [((12, 12), (4, 4)), ((10, 10), (4, 4)), ((7, 13), (5, 5)), ((3, 3), (6, 6))]
)
def test_share_equals_fine_sampling(shape, grid):
    covered = np.random.default_rng(0).random(shape) < 0.5
    cell = max(shape[0] / grid[0], shape[1] / grid[1])
    # Sample points per cell and axis: a multiple of every denominator above, so the midpoint sums are exact.
    samples = 60
    expected = np.zeros(grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            y = np.floor((row + (np.arange(samples) + 0.5) / samples) * cell).astype(int)
            x = np.floor((column + (np.arange(samples) + 0.5) / samples) * cell).astype(int)
            y, x = y[y < shape[0]], x[x < shape[1]]
            expected[row, column] = covered[np.ix_(y, x)].sum() / samples**2
    assert token_share(covered, grid) == pytest.approx(expected, abs=0.02)
    assert token_share(covered, grid).sum() * cell**2 == pytest.approx(covered.sum())


def test_precision_and_recall_by_hand():
    true_share = np.array([[1.0, 0.6, 0.5], [0.9, 0.0, 0.0]])
    face_share = np.array([[1.0, 1.0, 1.0], [0.2, 1.0, 1.0]])
    quality = prompt_quality(ids(0, 2, 3, 5), true_share=true_share, face_share=face_share)
    assert quality.precision == 2 / 4  # 0 and 3; 2 is covered by exactly half, 5 not at all
    assert quality.recall == 1 / 2  # wanted: 0 and 1; 3 lies outside the face mask
    assert (quality.prompts, quality.wanted) == (4, 2)


def test_exactly_half_stays_wrong_whatever_the_cell_size():
    covered = np.zeros((64, 64), dtype=bool)
    covered[:, :32] = True
    for tokens in (5, 7, 9, 11):  # the middle column of cells is exactly half covered
        share = token_share(covered, (tokens, tokens))
        middle = tokens * (tokens // 2) + tokens // 2
        assert prompt_quality(ids(middle), true_share=share, face_share=np.ones_like(share)).precision == 0.0


def test_empty_cases():
    none, all_of_it = np.zeros((2, 2)), np.ones((2, 2))
    no_prompts = prompt_quality(ids(), true_share=all_of_it, face_share=all_of_it)
    assert math.isnan(no_prompts.precision)
    assert no_prompts.recall == 0.0
    no_truth = prompt_quality(ids(1), true_share=none, face_share=all_of_it)
    assert no_truth.precision == 0.0
    assert math.isnan(no_truth.recall)
    assert math.isnan(prompt_quality(ids(1), true_share=all_of_it, face_share=none).recall)
    everything = prompt_quality(ids(0, 1, 2, 3), true_share=all_of_it, face_share=all_of_it)
    assert (everything.precision, everything.recall) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop_over_tokens_in_any_order(seed):
    rng = np.random.default_rng(seed)
    true_share, face_share = rng.random((2, 5, 6))
    prompts = rng.permutation(30)[:12].astype(np.int64)
    right = [t for t in prompts.tolist() if true_share[t // 6, t % 6] > 0.5]
    wanted = {t for t in range(30) if true_share[t // 6, t % 6] > 0.5 and face_share[t // 6, t % 6] > 0.5}
    quality = prompt_quality(prompts, true_share=true_share, face_share=face_share)
    assert quality.precision == pytest.approx(len(right) / 12)
    assert quality.recall == pytest.approx(len(wanted & set(prompts.tolist())) / len(wanted))
    assert quality == prompt_quality(np.sort(prompts), true_share=true_share, face_share=face_share)


def test_wrong_inputs_are_named():
    share = np.zeros((2, 2))
    with pytest.raises(ValueError, match=r"1-D integer array; got float64 \(1,\)"):
        prompt_quality(np.array([0.0]), true_share=share, face_share=share)
    with pytest.raises(ValueError, match=r"\[0, 4\); got -1 to 3"):
        prompt_quality(ids(-1, 3), true_share=share, face_share=share)
    with pytest.raises(ValueError, match=r"\[0, 4\); got 4 to 4"):
        prompt_quality(ids(4), true_share=share, face_share=share)
    with pytest.raises(ValueError, match="repeated"):
        prompt_quality(ids(1, 1), true_share=share, face_share=share)
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(2, 3\)"):
        prompt_quality(ids(1), true_share=share, face_share=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="token_grid must be positive"):
        token_share(np.zeros((2, 2), dtype=bool), (0, 2))
    with pytest.raises(ValueError, match="covered must be"):
        token_share(np.zeros((2, 2)), (1, 1))
