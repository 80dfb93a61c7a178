import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3pot.matching import greedy
from s3pot.matching.greedy import greedy_match, split_matches


def literal_algorithm_1(scores_rc: Tensor) -> list[int]:
    """Lines 4-11 of Algorithm 1 as printed: the row of every column, -1 once the rows are used up."""
    scores = scores_rc.numpy()
    rows, columns = np.ones(scores.shape[0], bool), np.ones(scores.shape[1], bool)
    matched = [-1] * scores.shape[1]
    for _ in range(scores.shape[1]):
        if not rows.any():
            break
        open_scores = np.where(rows[:, None] & columns[None, :], scores, -np.inf)
        row, column = divmod(int(open_scores.argmax()), scores.shape[1])
        matched[column] = row
        rows[row], columns[column] = False, False
    return matched


def one_pair_per_round(rows: int, columns: int) -> Tensor:
    """All rows agree on the order of columns and all columns on that of rows: only one pair is mutually best."""
    return torch.arange(rows, 0, -1.0)[:, None] + torch.arange(columns, 0, -1.0)[None, :] / (2 * columns)


def displacement_chain(size: int) -> Tensor:
    """Falling along 00, 01, 11, 12, 22, ...: the columns but the first all prefer a row that another one gets."""
    scores = torch.full((size, size), -1.0)
    for i in range(size):
        scores[i, i] = 2.0 * (size - i)
        if i + 1 < size:
            scores[i, i + 1] = 2.0 * (size - i) - 1
    return scores


def match_one(scores_rc: Tensor) -> list[int]:
    return greedy_match(scores_rc[None])[0].tolist()


class TestHandWorked:
    def test_best_pair_first(self) -> None:
        # 0.9 at (1, 0) goes first; column 1 would have liked row 1 too and gets row 0.
        assert match_one(torch.tensor([[0.8, 0.3], [0.9, 0.7], [0.1, 0.2]])) == [1, 0]

    def test_ties_go_to_the_lowest_row_then_the_lowest_column(self) -> None:
        assert match_one(torch.zeros(3, 2)) == [0, 1]
        # (0, 1) and (1, 0) tie: row 0 goes first although its column is the later one.
        assert match_one(torch.tensor([[0.0, 1.0], [1.0, 1.0]])) == [1, 0]

    def test_negative_zero_ties_with_zero(self) -> None:
        assert match_one(torch.tensor([[-0.0], [0.0]])) == [0]
        assert match_one(torch.tensor([[-0.0, 0.0]])) == [0, -1]

    def test_more_columns_than_rows_leaves_the_worst_columns_without(self) -> None:
        assert match_one(torch.tensor([[0.1, 0.9, 0.5]])) == [-1, 0, -1]

    @pytest.mark.parametrize("shape", [(1, 3, 0), (0, 3, 2), (2, 0, 2)])
    def test_nothing_to_match(self, shape: tuple[int, int, int]) -> None:
        matched = greedy_match(torch.zeros(shape))
        assert matched.shape == (shape[0], shape[2])
        assert (matched == -1).all()


class TestEqualsTheLiteralLoop:
    @settings(max_examples=300, deadline=None)
    @given(
        rows=st.integers(1, 12),
        columns=st.integers(1, 12),
        levels=st.sampled_from([1, 2, 3, 10, 1000]),
        seed=st.integers(0, 2**31),
    )
    def test_small_matrices_with_many_ties(self, rows: int, columns: int, levels: int, seed: int) -> None:
        drawn = torch.randint(-levels, levels, (rows, columns), generator=torch.Generator().manual_seed(seed))
        assert match_one(drawn.float()) == literal_algorithm_1(drawn.float())

    @pytest.mark.parametrize("levels", [2, 50, 10**6])
    @pytest.mark.parametrize("shape", [(300, 120), (120, 300)])
    def test_larger_matrices(self, levels: int, shape: tuple[int, int]) -> None:
        scores = torch.randint(0, levels, shape, generator=torch.Generator().manual_seed(levels)).float()
        assert match_one(scores) == literal_algorithm_1(scores)

    def test_tokens_of_few_dimensions(self) -> None:
        # Cosines of low-rank tokens: many columns want the same few rows.
        generator = torch.Generator().manual_seed(1)
        image = torch.nn.functional.normalize(torch.randn(256, 4, generator=generator) + 1, dim=1)
        noise = 0.1 * torch.randn(100, 4, generator=generator)
        scores = image @ torch.nn.functional.normalize(image[:100] + noise, dim=1).T
        assert match_one(scores) == literal_algorithm_1(scores)

    @pytest.mark.parametrize("scores", [one_pair_per_round(90, 60), displacement_chain(60), torch.zeros(90, 60)])
    def test_adversarial_chains(self, scores: Tensor) -> None:
        assert match_one(scores) == literal_algorithm_1(scores)
        assert match_one(scores.T.contiguous()) == literal_algorithm_1(scores.T)

    def test_long_runs_of_taken_rows_are_skipped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(greedy, "_LOOKAHEAD", 2)
        monkeypatch.setattr(greedy, "_SORTS_ON_DEMAND", 1)
        monkeypatch.setattr(greedy, "_SORT_CHUNK_ENTRIES", 100)
        scores = torch.randint(0, 5, (80, 70), generator=torch.Generator().manual_seed(3)).float()
        assert match_one(scores) == literal_algorithm_1(scores)

    def test_the_grid_of_the_embedded_segmenter(self) -> None:
        scores = torch.rand(1024, 400, generator=torch.Generator().manual_seed(0))
        assert match_one(scores) == literal_algorithm_1(scores)


class TestBatch:
    @settings(max_examples=100, deadline=None)
    @given(seed=st.integers(0, 2**31), levels=st.sampled_from([2, 1000]))
    def test_padded_batch_equals_loop_over_the_cut_out_parts(self, seed: int, levels: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randint(0, levels, (3, 9, 6), generator=generator).float()
        row_valid = torch.rand(3, 9, generator=generator) < 0.7
        column_valid = torch.rand(3, 6, generator=generator) < 0.7
        matched = greedy_match(scores, row_valid, column_valid)
        for i in range(3):
            rows = row_valid[i].nonzero().flatten()
            part = literal_algorithm_1(scores[i][row_valid[i]][:, column_valid[i]]) if len(rows) else []
            expected = [int(rows[r]) if r >= 0 else -1 for r in part] or [-1] * int(column_valid[i].sum())
            assert matched[i][column_valid[i]].tolist() == expected
            assert (matched[i][~column_valid[i]] == -1).all()

    def test_what_padding_holds_does_not_matter(self) -> None:
        scores = torch.rand(2, 8, 5, generator=torch.Generator().manual_seed(0))
        row_valid, column_valid = torch.ones(2, 8, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
        row_valid[0, 5:], column_valid[1, 3:] = False, False
        expected = greedy_match(scores, row_valid, column_valid)
        for value in (torch.nan, torch.inf, -torch.inf, 1e30):
            spoilt = scores.masked_fill(~row_valid[:, :, None] | ~column_valid[:, None, :], value)
            assert torch.equal(greedy_match(spoilt, row_valid, column_valid), expected)

    def test_order_of_images_does_not_matter(self) -> None:
        scores = torch.randint(0, 4, (4, 20, 15), generator=torch.Generator().manual_seed(0)).float()
        assert torch.equal(greedy_match(scores.flip(0)), greedy_match(scores).flip(0))


class TestErrors:
    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    def test_scores_that_are_not_finite(self, value: float) -> None:
        scores = torch.zeros(2, 4, 3)
        scores[1, 2, 1] = value
        with pytest.raises(ValueError, match="finite"):
            greedy_match(scores)

    def test_scores_are_left_as_they_were(self) -> None:
        scores = torch.rand(1, 6, 4)
        before = scores.clone()
        greedy_match(scores, torch.tensor([[True] * 5 + [False]]))
        assert torch.equal(scores, before)


class TestSplit:
    def test_hand_worked(self) -> None:
        # Face tokens 1, 2, 4. Their columns were matched to 2, 5 (outside the face) and 1.
        face = torch.tensor([False, True, True, False, True, False])
        occlusion, visible_face = split_matches(torch.tensor([2, 5, 1]), face)
        assert occlusion.tolist() == [4]
        assert visible_face.tolist() == [1, 2]

    def test_columns_that_went_without_are_ignored(self) -> None:
        occlusion, visible_face = split_matches(torch.tensor([-1, 0]), torch.tensor([True, True]))
        assert (occlusion.tolist(), visible_face.tolist()) == ([1], [0])

    @settings(max_examples=200, deadline=None)
    @given(seed=st.integers(0, 2**31), tokens=st.integers(1, 30), levels=st.sampled_from([1, 3, 1000]))
    def test_as_many_occlusion_prompts_as_matches_outside_the_face(self, seed: int, tokens: int, levels: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        valid = torch.rand(tokens, generator=generator) < 0.8
        face = (torch.rand(tokens, generator=generator) < 0.5) & valid
        scores = torch.randint(0, levels, (1, tokens, int(face.sum())), generator=generator).float()
        matched = greedy_match(scores, valid[None])[0]
        assert (matched >= 0).all()
        assert len(matched.unique()) == len(matched)
        assert valid[matched].all()
        occlusion, visible_face = split_matches(matched, face)
        assert len(occlusion) == int((~face[matched]).sum())
        assert torch.equal(torch.cat([occlusion, visible_face]).sort().values, face.nonzero().flatten())
