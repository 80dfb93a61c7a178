"""Lay occluders over a clean face, with exact truth and no give-away seam [design 5.11, 6].

Rendered at working size: the cut-out is shrunk with area filtering, blurred to the sharpness of the face, tinted toward
its light and, for hands, toward its skin; edges are soft; some cast a shadow (a shadow is not an occlusion).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from s3pot.composite.cutouts import Cutout
from s3pot.composite.difficulty import STANDARD, Difficulty
from s3pot.composite.placement import face_layout, place
from s3pot.metrics.face_region import face_region

ATTEMPTS = 12
# A truth of fewer pixels than this share of R says nothing about a method: a pixel more or less decides.
LEAST_TRUTH = 0.01
# How far colour is continued past the outline, in pixels: more than any blur of the blend reaches.
_RIM = 2.0


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A face with an occluder and everything that is known about it.

    Attributes:
        image: (H, W, 3) uint8 RGB, occluded.
        clean: (H, W, 3) uint8 RGB, the face before.
        occluder: (H, W) bool, where the occluder's alpha is above one half, inside the face or not.
        occlusion: (H, W) bool, `occluder` inside the face region R: the truth.
        region: (H, W) bool, the face region R of the clean labels, holes filled.
        cutout_ids: ids of the cut-outs used; empty for a decoy.
        kind: kind of the first cut-out, or "decoy".
    """

    image: UInt8[np.ndarray, "h w 3"]
    clean: UInt8[np.ndarray, "h w 3"]
    occluder: Bool[np.ndarray, "h w"]
    occlusion: Bool[np.ndarray, "h w"]
    region: Bool[np.ndarray, "h w"]
    cutout_ids: tuple[str, ...]
    kind: str


def compose(
    clean: UInt8[np.ndarray, "h w 3"],
    parsing: UInt8[np.ndarray, "h w"],
    cutouts: Sequence[Cutout],
    rng: np.random.Generator,
    difficulty: Difficulty = STANDARD,
) -> Composite:
    """Lay the cut-outs over the face, one after the other.

    Args:
        clean: (H, W, 3) uint8 RGB face.
        parsing: (H, W) uint8 12-class parsing of the clean face.
        cutouts: one or more occluders.
        rng: source of every draw.
        difficulty: ranges of the draws; the number of occluders is the caller's.

    Returns:
        The composite; its truth covers `difficulty.covered_share` of R unless no draw managed that (then the last).

    Raises:
        ValueError: without cut-outs, or if the parsing has no face region.
    """
    if not cutouts:
        raise ValueError("compose needs at least one cut-out; a face without occluder is just the clean face")
    region = face_region(parsing)
    image, occluder = clean, np.zeros(region.shape, dtype=bool)
    for cutout in cutouts:
        color, alpha = _warp_into_face(cutout, parsing, region, occluder, rng, difficulty)
        color = _match_light(color, alpha, clean, region, cutout.kind, rng, difficulty)
        image = _blend(image, color, alpha, rng, difficulty)
        occluder = occluder | (alpha > 0.5)
    return Composite(
        image=image,
        clean=clean,
        occluder=occluder,
        occlusion=occluder & region,
        region=region,
        cutout_ids=tuple(cutout.id for cutout in cutouts),
        kind=cutouts[0].kind,
    )


def compose_covering(
    clean: UInt8[np.ndarray, "h w 3"],
    parsing: UInt8[np.ndarray, "h w"],
    choices: Sequence[Sequence[Cutout]],
    rng_of: Callable[[int], np.random.Generator],
    difficulty: Difficulty = STANDARD,
) -> Composite:
    """Compose until the truth is more than a few pixels: a benchmark has no use for an occluder beside the face.

    Args:
        clean: as in `compose`.
        parsing: as in `compose`.
        choices: the cut-outs wanted, then others to take where those do not reach the face.
        rng_of: the source of every draw of an attempt, by its number.
        difficulty: as in `compose`.

    Returns:
        The first composite whose truth covers `LEAST_TRUTH` of R; without one, that with the largest truth.
    """
    best: Composite | None = None
    for attempt in range(2 * len(choices)):  # two tries each: a thin thing may fail all placements of one
        made = compose(clean, parsing, choices[attempt // 2], rng_of(attempt), difficulty)
        if best is None or made.occlusion.sum() > best.occlusion.sum():
            best = made
        if best.occlusion.sum() >= LEAST_TRUTH * best.region.sum():
            return best
    if best is None:
        raise ValueError("compose_covering needs at least one choice of cut-outs")
    return best


def compose_decoy(
    clean: UInt8[np.ndarray, "h w 3"],
    parsing: UInt8[np.ndarray, "h w"],
    donor: UInt8[np.ndarray, "h w 3"],
    cutout: Cutout,
    rng: np.random.Generator,
    difficulty: Difficulty = STANDARD,
) -> Composite:
    """Paste skin of another aligned face through an occluder's outline: a seam, but nothing that occludes.

    Without such pictures a network learns seams instead of occluders. The truth is empty, and the picture before the
    paste is not a reference for it: `clean` is the picture itself.
    """
    region = face_region(parsing)
    _, alpha = _warp_into_face(cutout, parsing, region, np.zeros(region.shape, dtype=bool), rng, difficulty)
    alpha = alpha * region
    color = _shift_color(donor.astype(np.float32), clean, alpha > 0.5, 1.0)
    image = _blend(clean, color, alpha, rng, difficulty, shadow=False)
    nothing = np.zeros(region.shape, dtype=bool)
    return Composite(
        image=image, clean=image, occluder=nothing, occlusion=nothing, region=region, cutout_ids=(), kind="decoy"
    )


def unoccluded(clean: UInt8[np.ndarray, "h w 3"], parsing: UInt8[np.ndarray, "h w"]) -> Composite:
    """Describe a face with nothing on it as a composite with an empty truth [design 5.12]."""
    region = face_region(parsing)
    nothing = np.zeros(region.shape, dtype=bool)
    return Composite(
        image=clean, clean=clean, occluder=nothing, occlusion=nothing, region=region, cutout_ids=(), kind="clean"
    )


def _warp_into_face(
    cutout: Cutout,
    parsing: np.ndarray,
    region: np.ndarray,
    covered: np.ndarray,
    rng: np.random.Generator,
    difficulty: Difficulty,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """Draw placements until this occluder and those before it cover a sensible share of R.

    Returns:
        Colour in 0..255, continued past the outline so that blurring it brings in no dark rim, and alpha in 0..1.
    """
    layout, area = face_layout(parsing), max(int(region.sum()), 1)
    height, width = parsing.shape
    least, most = difficulty.covered_share
    source_alpha = cutout.rgba[..., 3].astype(np.float32) / 255.0
    for _ in range(ATTEMPTS):
        matrix = place(cutout.kind, cutout.rgba.shape[:2], layout, rng, difficulty)
        shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        # Bilinear warping aliases when it shrinks: blur first by what area filtering would average.
        sigma = max(0.0, 0.5 * (1.0 / max(shrink, 1e-3) - 1.0))
        alpha = source_alpha if sigma < 0.2 else cv2.GaussianBlur(source_alpha, (0, 0), sigma)
        alpha = cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_LINEAR)
        share = float((((alpha > 0.5) | covered) & region).sum()) / area
        if least <= share <= most:
            break
    premultiplied = cutout.rgba[..., :3].astype(np.float32) * source_alpha[..., None]
    if sigma >= 0.2:
        premultiplied = cv2.GaussianBlur(premultiplied, (0, 0), sigma)
    color = cv2.warpAffine(premultiplied, matrix, (width, height), flags=cv2.INTER_LINEAR)
    color = color / np.maximum(alpha, 1e-3)[..., None]
    weight = cv2.GaussianBlur(alpha, (0, 0), _RIM)
    around = cv2.GaussianBlur(color * alpha[..., None], (0, 0), _RIM) / np.maximum(weight, 1e-6)[..., None]
    return np.where(alpha[..., None] > 1e-3, color, around), np.clip(alpha, 0.0, 1.0)


def _match_light(
    color: np.ndarray,
    alpha: np.ndarray,
    clean: np.ndarray,
    region: np.ndarray,
    kind: str,
    rng: np.random.Generator,
    difficulty: Difficulty,
) -> np.ndarray:
    """Tint the occluder: a hand toward the skin it touches (the hard case), anything by the light of the picture."""
    visible = alpha > 0.5
    if kind == "hands":
        return _shift_color(color, clean, visible, rng.uniform(*difficulty.skin_tint), region)
    brightness = 0.5 + clean.mean() / 255.0
    tinted: np.ndarray = color * np.clip(brightness * rng.uniform(*difficulty.light), 0.6, 1.25)
    return tinted


def _shift_color(
    color: np.ndarray, target: np.ndarray, visible: np.ndarray, strength: float, region: np.ndarray | None = None
) -> np.ndarray:
    """Move the mean RGB of the visible part toward the target's mean (over `region`, or over the same pixels)."""
    where = visible if region is None else region
    if not visible.any() or not where.any():
        return color
    shifted: np.ndarray = color + strength * (target[where].mean(axis=0) - color[visible].mean(axis=0))
    return shifted


def _blend(
    image: np.ndarray,
    color: np.ndarray,
    alpha: np.ndarray,
    rng: np.random.Generator,
    difficulty: Difficulty,
    shadow: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    side = max(alpha.shape)
    base = image.astype(np.float32)
    if shadow and rng.random() < difficulty.shadow_probability:
        shift = rng.normal(0, 0.012) * side, rng.uniform(0.0, 0.025) * side
        moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], dtype=np.float32)
        cast = cv2.warpAffine(alpha, moved, (alpha.shape[1], alpha.shape[0]))
        cast = cv2.GaussianBlur(cast, (0, 0), 0.015 * side) * rng.uniform(*difficulty.shadow_strength)
        base = base * (1.0 - cast[..., None])
    # Edges of a photograph are 1-2 px wide; the blur also matches a soft face.
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(*difficulty.edge_softness))
    sharpness = cv2.GaussianBlur(color, (0, 0), 0.5 * rng.uniform(*difficulty.sharpness))
    mixed = base * (1.0 - soft[..., None]) + sharpness * soft[..., None]
    blended: UInt8[np.ndarray, "h w 3"] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    return blended
