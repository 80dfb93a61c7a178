import math

import pytest
import torch
from torch import Tensor

from s3pot.matching.similarity import face_tokens, initial_prompt, placewise_similarity, similarity_matrix


def grid_of(*tokens: tuple[float, ...]) -> Tensor:
    """Tokens in a row as (1, C, 1, w)."""
    return torch.tensor(tokens).T[None, :, None, :]


def slow_cosine(a: Tensor, b: Tensor) -> float:
    return float(sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) / (math.hypot(*a) * math.hypot(*b)))


class TestPlacewise:
    def test_hand_worked(self) -> None:
        image = grid_of((3.0, 0.0), (1.0, 1.0), (0.0, 2.0), (0.0, 0.0))
        reference = grid_of((1.0, 0.0), (1.0, 0.0), (0.0, -5.0), (1.0, 0.0))
        expected = torch.tensor([[1.0, math.sqrt(0.5), -1.0, 0.0]])
        torch.testing.assert_close(placewise_similarity(image, reference), expected)

    def test_ids_run_along_rows(self) -> None:
        image, reference = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
        similarity = placewise_similarity(image, reference)
        assert similarity[1, 2 * 4 + 3] == pytest.approx(
            slow_cosine(image[1, :, 2, 3], reference[1, :, 2, 3]), abs=1e-6
        )

    def test_half_precision_tokens_are_compared_in_float32(self) -> None:
        image, reference = torch.randn(1, 8, 2, 2).half(), torch.randn(1, 8, 2, 2).half()
        assert torch.equal(
            placewise_similarity(image, reference), placewise_similarity(image.float(), reference.float())
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = similarity_matrix(image[0], reference[0], torch.arange(4))
        assert torch.equal(inside, similarity_matrix(image[0].float(), reference[0].float(), torch.arange(4)))

    def test_centering_removes_what_all_tokens_share(self) -> None:
        image, reference = torch.randn(1, 8, 3, 3), torch.randn(1, 8, 3, 3)
        shift = 100 * torch.randn(1, 8, 1, 1)
        torch.testing.assert_close(
            placewise_similarity(image + shift, reference + shift, centered=True),
            placewise_similarity(image, reference, centered=True),
            atol=1e-3,
            rtol=0,
        )

    def test_centering_hand_worked(self) -> None:
        image = grid_of((3.0, 1.0), (1.0, 2.0))
        reference = grid_of((1.0, 1.0), (-1.0, 0.0))  # the mean of all four is (1, 1)
        # (2, 0) with (0, 0), which is similar to nothing, and (0, 1) with (-2, -1).
        torch.testing.assert_close(
            placewise_similarity(image, reference, centered=True), torch.tensor([[0.0, -1 / math.sqrt(5)]])
        )

    def test_centering_keeps_agreement_whatever_covers_the_rest(self) -> None:
        image, reference = torch.randn(1, 8, 3, 3), torch.randn(1, 8, 3, 3)
        image[..., 1:] = reference[..., 1:]
        image[..., 0] += 100
        similarity = placewise_similarity(image, reference, centered=True).reshape(3, 3)
        torch.testing.assert_close(similarity[:, 1:], torch.ones(3, 2))

    def test_padding_stays_out_of_the_mean(self) -> None:
        image, reference = torch.randn(1, 8, 2, 3), torch.randn(1, 8, 2, 3)
        valid = torch.tensor([[True, True, True, True, False, False]])
        expected = placewise_similarity(image, reference, valid, centered=True)
        image[0, :, 1, 1:], reference[0, :, 1, 1:] = torch.nan, 1e6
        assert torch.equal(placewise_similarity(image, reference, valid, centered=True)[valid], expected[valid])


class TestMatrix:
    def test_equals_slow_cosines(self) -> None:
        image, reference = torch.randn(6, 2, 3), torch.randn(6, 2, 3)
        columns = torch.tensor([4, 0])
        matrix = similarity_matrix(image, reference, columns)
        assert matrix.shape == (6, 2)
        for row in range(6):
            for place, column in enumerate(columns.tolist()):
                cosine = slow_cosine(image.flatten(1)[:, row], reference.flatten(1)[:, column])
                assert matrix[row, place] == pytest.approx(cosine, abs=1e-6)

    @pytest.mark.parametrize("centered", [False, True])
    def test_diagonal_is_the_placewise_similarity(self, centered: bool) -> None:
        image, reference = torch.randn(6, 4, 4), torch.randn(6, 4, 4)
        valid = torch.rand(16) < 0.8
        matrix = similarity_matrix(image, reference, torch.arange(16), valid, centered=centered)
        placewise = placewise_similarity(image[None], reference[None], valid[None], centered=centered)[0]
        torch.testing.assert_close(matrix.diagonal(), placewise)

    def test_no_columns(self) -> None:
        empty = torch.zeros(0, dtype=torch.int64)
        assert similarity_matrix(torch.randn(6, 2, 2), torch.randn(6, 2, 2), empty).shape == (4, 0)


class TestFaceTokens:
    def test_more_than_half_of_the_cell(self) -> None:
        face_mask = torch.zeros(1, 4, 6, dtype=torch.bool)
        face_mask[0, :2, :2] = True  # all four pixels of token 0
        face_mask[0, :2, 2] = True  # two of four of token 1: exactly half is not face
        face_mask[0, :2, 4] = True
        face_mask[0, 0, 5] = True  # three of four of token 2
        face_mask[0, 2, 0] = True  # one of four of token 3
        assert face_tokens(face_mask, (2, 3)).tolist() == [[True, False, True, False, False, False]]

    def test_grid_that_does_not_divide_the_frame(self) -> None:
        with pytest.raises(ValueError, match="3 x 3 does not divide"):
            face_tokens(torch.ones(1, 4, 6, dtype=torch.bool), (3, 3))


class TestInitialPrompt:
    similarity = torch.tensor([0.99, 0.5, 0.9, 0.9, 0.1, 0.1])
    face = torch.tensor([False, True, True, True, True, True])
    valid = torch.tensor([True, True, True, True, True, True])

    def test_most_similar_inside_the_face_lowest_id_on_a_tie(self) -> None:
        assert initial_prompt(self.similarity, self.face, self.valid) == 2

    def test_least_similar(self) -> None:
        assert initial_prompt(self.similarity, self.face, self.valid, "least_similar") == 4

    def test_padding_is_never_chosen(self) -> None:
        valid = torch.tensor([True, True, False, True, False, True])
        assert initial_prompt(self.similarity, self.face, valid) == 3
        assert initial_prompt(self.similarity, self.face, valid, "least_similar") == 5

    def test_random_is_drawn_from_the_generator_inside_the_face(self) -> None:
        def draw(seed: int) -> int | None:
            generator = torch.Generator().manual_seed(seed)
            return initial_prompt(self.similarity, self.face, self.valid, "random", generator)

        assert [draw(seed) for seed in range(9)] == [draw(seed) for seed in range(9)]
        assert {draw(seed) for seed in range(100)} == {1, 2, 3, 4, 5}

    def test_random_without_generator(self) -> None:
        with pytest.raises(ValueError, match="generator"):
            initial_prompt(self.similarity, self.face, self.valid, "random")

    def test_no_face_token(self) -> None:
        assert initial_prompt(self.similarity, torch.zeros(6, dtype=torch.bool), self.valid) is None
        assert initial_prompt(self.similarity, self.face, ~self.valid) is None

    def test_similarity_that_is_not_finite(self) -> None:
        spoilt = self.similarity.clone()
        spoilt[0] = torch.nan  # outside the face: nobody looks
        assert initial_prompt(spoilt, self.face, self.valid) == 2
        spoilt[4] = torch.nan
        with pytest.raises(ValueError, match="finite"):
            initial_prompt(spoilt, self.face, self.valid)
