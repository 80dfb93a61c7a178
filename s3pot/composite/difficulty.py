"""How hard composites are: the ranges that a composite is drawn from, as data.

A picture is hard where the occluder looks like the face below it: a hand of the face's colour, matched light, a soft
outline, a shadow beside it that is no occlusion, very little or very much of the face covered.
"""

from dataclasses import dataclass
from typing import Literal

Preset = Literal["easy", "standard", "hard"]

_POSITIVE = ("hand_scale", "object_scale", "light", "edge_softness", "sharpness")
_SHARES = ("covered_share", "skin_tint", "shadow_strength")


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Ranges as [low, high], drawn from uniformly; the defaults are the preset `standard`.

    Attributes:
        occluders: fewest and most cut-outs in one picture.
        covered_share: share of the face region R that may be covered, in [0, 1]; other placements are drawn again.
        hand_scale: long side of a hand, in face heights.
        object_scale: long side of an object, or of anything else that lies anywhere on the face, in face widths.
        skin_tint: how far a hand takes on the colour of the face, 0 = keeps its own, 1 = the face's mean colour.
        light: gain of anything else over the brightness of the picture; 1 = as bright as the picture suggests.
        shadow_probability: how often an occluder casts a shadow, in [0, 1].
        shadow_strength: share of the light that a shadow takes away, in [0, 1].
        edge_softness: blur of the outline, Gaussian sigma in pixels.
        sharpness: blur of the occluder, as a factor on a Gaussian sigma of half a pixel.
    """

    occluders: tuple[int, int] = (1, 1)
    covered_share: tuple[float, float] = (0.04, 0.65)
    hand_scale: tuple[float, float] = (0.55, 0.95)
    object_scale: tuple[float, float] = (0.3, 0.75)
    skin_tint: tuple[float, float] = (0.2, 0.9)
    light: tuple[float, float] = (0.8, 1.15)
    shadow_probability: float = 0.4
    shadow_strength: tuple[float, float] = (0.15, 0.45)
    edge_softness: tuple[float, float] = (0.4, 0.9)
    sharpness: tuple[float, float] = (0.4, 1.6)

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("occluders", *_POSITIVE, *_SHARES):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [low, high], got [{low}, {high}]")
            if name in _POSITIVE and low <= 0:
                raise ValueError(f"{name} must be above 0, got {low}")
            if name in _SHARES and not 0 <= low <= high <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got [{low}, {high}]")
        if self.occluders[0] < 1:
            raise ValueError(f"occluders must be at least 1, got {self.occluders[0]}")
        if not 0 <= self.shadow_probability <= 1:
            raise ValueError(f"shadow_probability must lie in [0, 1], got {self.shadow_probability}")


STANDARD = Difficulty()
PRESETS: dict[Preset, Difficulty] = {
    "easy": Difficulty(
        covered_share=(0.1, 0.5),
        hand_scale=(0.7, 0.95),
        object_scale=(0.5, 0.8),
        skin_tint=(0.0, 0.3),
        shadow_probability=0.0,
        edge_softness=(0.3, 0.6),
        sharpness=(0.4, 1.0),
    ),
    "standard": STANDARD,
    "hard": Difficulty(
        occluders=(1, 2),
        covered_share=(0.02, 0.8),
        hand_scale=(0.4, 1.05),
        object_scale=(0.2, 0.9),
        skin_tint=(0.7, 1.0),
        light=(0.95, 1.05),
        shadow_probability=0.7,
        shadow_strength=(0.25, 0.55),
        edge_softness=(0.7, 1.6),
        sharpness=(1.2, 3.5),
    ),
}
