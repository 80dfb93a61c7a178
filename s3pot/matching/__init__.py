"""From tokens to prompts: similarity, exact greedy matching, threshold selectors [S3POT §3.2, §3.3]."""

from s3pot.matching.greedy import greedy_match, split_matches
from s3pot.matching.selector import Prompts, SelectorConfig, select_prompts
from s3pot.matching.similarity import face_tokens, initial_prompt, placewise_similarity, similarity_matrix
from s3pot.matching.threshold import otsu_prompts, otsu_threshold, threshold_prompts

__all__ = [
    "Prompts",
    "SelectorConfig",
    "face_tokens",
    "greedy_match",
    "initial_prompt",
    "otsu_prompts",
    "otsu_threshold",
    "placewise_similarity",
    "select_prompts",
    "similarity_matrix",
    "split_matches",
    "threshold_prompts",
]
