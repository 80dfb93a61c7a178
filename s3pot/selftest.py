"""Show the chain a face that is known by eye and say whether every part sees what it should.

Names, shapes and deterministic weights cannot tell whether a network is fed as it was trained: BGR for RGB, [-1, 1] for
ImageNet normalisation, another order of labels. The owner of real checkpoints can tell, with `s3pot.known_face`. Every
part is asked by itself, so that a blind parser does not blame the generator (which draws along what the embedded parser
sees). Where a part fails, the likely mistakes are tried, and those that repair it are named.

Ranges. For embedded models: what they gave, with room. For official ones: estimates of the authors of S3POT, who had no
checkpoint. `Finding.estimated` says which; a value outside an estimate is a reason to look, not a verdict.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from s3pot.chain import ChainConfig, load_prefix
from s3pot.embedded import load_parser
from s3pot.known_face import KnownFace, known_face, share_of_places
from s3pot.likely_mistakes import AS_THE_CHAIN, Masks, Parsing, Picture, ways_to_generate, ways_to_parse, ways_to_prompt
from s3pot.parsing.bisenet import BiSeNet
from s3pot.parsing.classes import CLASSES, FACE_CLASSES, face_mask
from s3pot.prefix import FrozenPrefix
from s3pot.reference.e4s.model import E4S
from s3pot.reference.precomputed import PrecomputedReferences
from s3pot.reference.quality import ssim_visible
from s3pot.sam.nano_encoder import NanoImageEncoder

Part = Literal["parser", "generator", "sam"]
Answer = TypeVar("Answer")

_COMPARED_SIZE = 256  # references are compared at this size, whatever the working size


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is measured of a part.

    Attributes:
        part: which part.
        text: what the number is, in a few words.
        embedded: plausible range for the embedded model.
        official: plausible range for an official checkpoint: an estimate.
    """

    part: Part
    text: str
    embedded: tuple[float, float]
    official: tuple[float, float]


# In this order the embedded models gave, at 256, 400 and 1024 px: 0.297; 0.953 to 0.959; 1; 0.990 to 0.992; 0.1 to 0.2;
# 0.970; 0.977 to 0.980. Fed in BGR: 0.385; 0.77; 0.77; 0.79; 11; 0.56 to 0.59; 0.76.
FACE_SHARE = Measure(part="parser", text="face, share of the picture", embedded=(0.25, 0.35), official=(0.2, 0.4))
FACE_IOU = Measure(part="parser", text="face, IoU with outline by hand", embedded=(0.85, 1.0), official=(0.75, 1.0))
# Another order of labels shows here: it may hardly change what is face.
PLACES = Measure(part="parser", text="marked places named right, share", embedded=(0.9, 1.0), official=(0.8, 1.0))
SSIM = Measure(part="generator", text="visible face, SSIM at 256 px", embedded=(0.94, 1.0), official=(0.45, 1.0))
COLOUR = Measure(part="generator", text="visible face, colour error of 255", embedded=(0.0, 3.0), official=(0.0, 25.0))
NOSE_POINT = Measure(part="sam", text="point on the nose, IoU", embedded=(0.85, 1.0), official=(0.75, 1.0))
SCARF_POINT = Measure(part="sam", text="point on the scarf, IoU", embedded=(0.85, 1.0), official=(0.6, 1.0))

# What one point on the nose may ask a SAM for: face, all skin, head, person; the best counts.
_FACE = tuple(CLASSES[number] for number in FACE_CLASSES)
_HEAD = (*_FACE, "hair", "ears", "eye_glass", "ear_rings")
_THINGS = (_FACE, (*_FACE, "ears", "below_face"), _HEAD, CLASSES[1:])


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number about one part.

    Attributes:
        part: parser, generator or sam.
        measure: what was measured.
        value: the number; None where there was nothing to measure.
        low: least plausible value.
        high: largest plausible value.
        estimated: whether the range is an estimate, made without such a checkpoint.
        ok: whether the value lies in the range, or there was nothing to measure.
        note: the likely cause when it does not; otherwise what helps to read the number.
    """

    part: Part
    measure: str
    value: float | None
    low: float
    high: float
    estimated: bool
    ok: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """Findings, and the answers they judge.

    Attributes:
        findings: of parser, generator and SAM, in this order.
        parsing: (S, S) uint8, 12 classes, of the clean picture.
        reference: (S, S, 3) uint8 of the occluded picture; None for precomputed references.
        nose_mask: (S, S) bool, SAM's answer to one point on the nose of the clean picture.
        scarf_mask: (S, S) bool, SAM's answer to one point on the scarf.
    """

    findings: list[Finding]
    parsing: UInt8[np.ndarray, "s s"]
    reference: UInt8[np.ndarray, "s s 3"] | None
    nose_mask: Bool[np.ndarray, "s s"]
    scarf_mask: Bool[np.ndarray, "s s"]


def run_selftest(config: ChainConfig) -> list[Finding]:
    """Load the chain and examine it on the known face.

    Raises:
        WeightsError: if weights are missing, unreadable or do not fit.
    """
    return examine(load_prefix(config), known_face(config.working_size)).findings


def examine(prefix: FrozenPrefix, face: KnownFace) -> Examination:
    """Ask every part of a chain by itself; none is given what another one answered.

    Args:
        prefix: parser, generator and SAM.
        face: at the working size of the chain.

    Raises:
        WeightsError: if the embedded parser, the yardstick of generator and SAM, is missing.
    """
    device = prefix.sam.device
    yardstick = ways_to_parse(load_parser().to(device), face, device)[AS_THE_CHAIN]()
    parsing, findings = _check(
        ways_to_parse(prefix.parser, face, device),
        lambda answer: _judge_parsing(answer, face, isinstance(prefix.parser, BiSeNet)),
    )
    reference = None
    if isinstance(prefix.generator, PrecomputedReferences):
        note = "not measured: references come from a folder, there is no generator"
        findings += [_finding(measure, None, False, note) for measure in (SSIM, COLOUR)]
    else:
        official = isinstance(prefix.generator, E4S)
        reference, found = _check(
            ways_to_generate(prefix.generator, face, yardstick, device),
            lambda answer: _judge_reference(answer, face, official),
        )
        findings += found
    official = not isinstance(prefix.sam.sam.image_encoder, NanoImageEncoder)
    (nose_mask, scarf_mask), found = _check(
        ways_to_prompt(prefix.sam, face), lambda answer: _judge_masks(answer, face, yardstick, official)
    )
    return Examination(
        findings=findings + found, parsing=parsing, reference=reference, nose_mask=nose_mask, scarf_mask=scarf_mask
    )


def _check(
    ways: Mapping[str, Callable[[], Answer]], judge: Callable[[Answer], list[Finding]]
) -> tuple[Answer, list[Finding]]:
    """Judge the chain's own answer; where it fails, say which of the other ways repair it."""
    answer = ways[AS_THE_CHAIN]()
    findings = judge(answer)
    if all(finding.ok for finding in findings):
        return answer, findings
    tried = [name for name in ways if name != AS_THE_CHAIN]
    repairing = [name for name in tried if all(finding.ok for finding in judge(ways[name]()))]
    if repairing:
        cause = f"likely cause: these weights want {' or '.join(repairing)}, which repairs this part"
    else:
        cause = f"not repaired by {', nor by '.join(tried)}: are these the weights that they should be?"
    return answer, [finding if finding.ok else replace(finding, note=cause) for finding in findings]


def _judge_parsing(parsing: Parsing, face: KnownFace, official: bool) -> list[Finding]:
    seen = face_mask(parsing)
    return [
        _finding(FACE_SHARE, float(seen.mean()), official),
        _finding(FACE_IOU, _iou(seen, face.outline), official),
        _finding(PLACES, share_of_places(parsing), official),
    ]


def _judge_reference(reference: Picture, face: KnownFace, official: bool) -> list[Finding]:
    clean, drawn = _compared(face.clean), _compared(reference)
    visible = _compared((face.outline & ~face.scarf).astype(np.uint8) * 255) == 255
    similarity = ssim_visible(drawn, clean, visible)
    mirrored = ssim_visible(np.ascontiguousarray(clean[:, ::-1]), clean, visible)
    error = np.abs(drawn[visible].mean(axis=0) - clean[visible].mean(axis=0)).mean()
    return [
        _finding(SSIM, similarity, official, f"a useless reference, the mirrored picture, has {mirrored:.2f}"),
        _finding(COLOUR, float(error), official),
    ]


def _judge_masks(masks: Masks, face: KnownFace, parsing: Parsing, official: bool) -> list[Finding]:
    things = [np.isin(parsing, [CLASSES.index(name) for name in names]) for names in _THINGS]
    everything = np.ones_like(face.outline)

    def best(mask: np.ndarray) -> float:
        return max(_iou(mask, thing) for thing in things)

    def useless(value: float) -> str:
        return f"a useless mask, the whole picture, has {value:.2f}"

    nose_mask, scarf_mask = masks
    return [
        _finding(NOSE_POINT, best(nose_mask), official, useless(best(everything))),
        _finding(SCARF_POINT, _iou(scarf_mask, face.scarf), official, useless(_iou(everything, face.scarf))),
    ]


def _finding(measure: Measure, value: float | None, official: bool, note: str = "") -> Finding:
    low, high = measure.official if official else measure.embedded
    return Finding(
        part=measure.part,
        measure=measure.text,
        value=value,
        low=low,
        high=high,
        estimated=official,
        ok=value is None or low <= value <= high,
        note=note,
    )


def _compared(array: np.ndarray) -> np.ndarray:
    return cv2.resize(array, (_COMPARED_SIZE, _COMPARED_SIZE), interpolation=cv2.INTER_AREA)


def _iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max(1, int((mask | truth).sum())))
