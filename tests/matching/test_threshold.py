import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu

from s3pot.matching.threshold import otsu_prompts, otsu_threshold, threshold_prompts

ALL = torch.ones(4, dtype=torch.bool)


class TestThreshold:
    def test_hand_worked(self) -> None:
        similarity = torch.tensor([0.2, 0.5, 0.7, 0.1])
        occlusion, visible_face = threshold_prompts(similarity, torch.tensor([True, True, True, False]), 0.5)
        assert occlusion.tolist() == [0]  # 0.5 is not below 0.5, token 3 is no face
        assert visible_face.tolist() == [1, 2]

    def test_no_face(self) -> None:
        occlusion, visible_face = threshold_prompts(torch.rand(4), ~ALL, 0.5)
        assert len(occlusion) == len(visible_face) == 0

    def test_similarity_that_is_not_finite(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            threshold_prompts(torch.tensor([0.1, torch.nan, 0.2, 0.3]), ALL, 0.5)


class TestOtsu:
    def test_two_values_are_told_apart(self) -> None:
        occlusion, visible_face = otsu_prompts(torch.tensor([0.9, 0.3, 0.9, 0.3]), ALL)
        assert (occlusion.tolist(), visible_face.tolist()) == ([1, 3], [0, 2])

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=60).filter(lambda v: max(v) - min(v) > 1e-6),
    )
    def test_equals_scikit_image(self, values: list[float]) -> None:
        expected = threshold_otsu(np.array(values, np.float64), nbins=256)
        found = otsu_threshold(torch.tensor(values, dtype=torch.float64))
        # A symmetric histogram has two equally good thresholds, and rounding decides which of them comes out on top.
        if not np.isclose(found, expected):
            data = np.array(values)

            def between(threshold: float) -> float:
                lower, upper = data[data <= threshold], data[data > threshold]
                return float(len(lower) * len(upper) * (lower.mean() - upper.mean()) ** 2)

            assert between(found) == pytest.approx(between(float(expected)), rel=0.05)

    @pytest.mark.parametrize("seed", range(20))
    def test_equals_scikit_image_on_similarities(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        values = np.concatenate([rng.normal(0.3, 0.1, 80), rng.normal(0.9, 0.05, 320)])
        assert otsu_threshold(torch.from_numpy(values)) == pytest.approx(threshold_otsu(values), abs=1e-12)

    def test_only_face_tokens_count(self) -> None:
        similarity = torch.tensor([0.9, 0.8, 0.2, -1.0])
        occlusion, visible_face = otsu_prompts(similarity, torch.tensor([True, True, True, False]))
        assert (occlusion.tolist(), visible_face.tolist()) == ([2], [0, 1])

    def test_all_equal_means_no_occlusion(self) -> None:
        occlusion, visible_face = otsu_prompts(torch.full((4,), 0.1), ALL)
        assert (occlusion.tolist(), visible_face.tolist()) == ([], [0, 1, 2, 3])

    def test_one_face_token(self) -> None:
        occlusion, visible_face = otsu_prompts(torch.rand(4), torch.tensor([False, True, False, False]))
        assert (occlusion.tolist(), visible_face.tolist()) == ([], [1])

    def test_no_face(self) -> None:
        occlusion, visible_face = otsu_prompts(torch.rand(4), ~ALL)
        assert len(occlusion) == len(visible_face) == 0

    @pytest.mark.parametrize("values", [[], [0.1, float("nan")], [0.1, float("inf")]])
    def test_values_that_have_no_threshold(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="Otsu"):
            otsu_threshold(torch.tensor(values))
