"""What the frozen prefix does, as data."""

from dataclasses import dataclass, field
from typing import Any

from s3pot.config import to_mapping
from s3pot.matching.selector import SelectorConfig
from s3pot.matching.similarity import InitialPromptStrategy
from s3pot.parsing.completion import FaceCompletion


@dataclass(frozen=True, kw_only=True)
class PrefixConfig:
    """What the frozen prefix does.

    Attributes:
        face_completion: how the parsing is completed before generation; `none` is the paper; not given = what suits
            the parser of the chain: `parser` for the embedded one, which parses through occluders, `hull` for bisenet.
        feature_enhancement: contrast enhanced tokens (paper) rather than image tokens; none = what suits the SAM of
            the chain: on for the official ones, as in the paper, off for nano (chosen on dev with truth; LOG.md).
        initial_prompt: which face token is p_i; the paper takes the most similar one.
        selector: how prompts are chosen.
        fresh_noise: E4S draws its noise anew for every image, rather than from its checkpoint.
        reference_degradation: blur of the reference before it is contrasted, in [0, 1]; 0 = as generated (an ablation).
        most_prompts: keep at most so many occlusion prompts and so many face prompts, drawn by chance; none = all (an
            ablation: Fig. 4).
        seed: of the random initial prompt, of kept prompts and of fresh noise.
    """

    face_completion: FaceCompletion | None = None
    feature_enhancement: bool | None = None
    initial_prompt: InitialPromptStrategy = "most_similar"
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    fresh_noise: bool = False
    reference_degradation: float = 0.0
    most_prompts: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.0 <= self.reference_degradation <= 1.0:
            raise ValueError(f"reference_degradation must lie in [0, 1], got {self.reference_degradation}")
        if self.most_prompts is not None and self.most_prompts < 1:
            raise ValueError(f"most_prompts must be at least 1, got {self.most_prompts}")

    def counted(self) -> dict[str, Any]:
        """Return the settings that results are known by; options of ablations count where they are used.

        So stores and heads that were made before an option existed keep their identity.
        """
        settings = to_mapping(self)
        for name, unused in (("reference_degradation", 0.0), ("most_prompts", None)):
            if settings[name] == unused:
                del settings[name]
        return settings

    @property
    def completion(self) -> FaceCompletion:
        """How parsings are completed; by itself, outside a chain, as suits the embedded parser."""
        return self.face_completion or "parser"

    @property
    def enhances(self) -> bool:
        """Whether enhanced tokens are contrasted; by itself, outside a chain, as in the paper."""
        return self.feature_enhancement is not False
