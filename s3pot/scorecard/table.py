"""The targets as data, and the table that puts what was measured beside them.

A row is met when its mean reaches the target. Rows that claim one thing to be better than another are met only when the
whole interval lies above 0. Rows without target are reported.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from s3pot.scorecard.estimates import Estimate
from s3pot.scorecard.nano_sam import NUMBERS, WRONG_SHARES

Model = Literal["nano_sam", "parser", "generator", "all", "chain", "locator", "landmarks"]
Better = Literal["higher", "lower"]
Met = Literal["yes", "no", "floor", "reported", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One number and what it should be.

    Attributes:
        key: name of the estimate.
        model: what is measured.
        measure: in words.
        target: what must be reached; None = reported only.
        aim: what should be reached beyond the target, which is then a floor.
        better: which way is better.
        claim: the interval, not the mean, must lie beyond the target.
    """

    key: str
    model: Model
    measure: str
    target: float | None = None
    aim: float | None = None
    better: Better = "higher"
    claim: bool = False


_SAM: tuple[Target, ...] = (
    Target(key="sam/occluder/1+0", model="nano_sam", measure="IoU, occluder, 1 point", target=0.55),
    Target(key="sam/occluder/3+3", model="nano_sam", measure="IoU, occluder, 3+3 points", target=0.75),
    Target(key="sam/occluder/10+10", model="nano_sam", measure="IoU, occluder, 10+10 points", target=0.82),
    Target(key="sam/visible_face/1", model="nano_sam", measure="IoU, visible face, 1 skin point", target=0.80),
    Target(key="sam/part/3+3", model="nano_sam", measure="IoU, face parts of >= 400 px², 3+3 points", target=0.60),
    Target(key="sam/segment/3+3", model="nano_sam", measure="IoU, natural segments, 3+3 points", target=0.50),
    *(
        Target(key=f"sam/number/{number}", model="nano_sam", measure=f"IoU, occluder, {number} points")
        for number in NUMBERS
    ),
    *(
        Target(
            key=f"sam/wrong/{share:.2f}",
            model="nano_sam",
            measure=f"IoU, occluder, 100 points, {share:.0%} of them wrong",
        )
        for share in WRONG_SHARES
    ),
)
_PARSER: tuple[Target, ...] = (
    Target(key="parser/classes_clean", model="parser", measure="mean IoU of 6 classes, clean", target=0.75),
    Target(key="parser/classes_occluded", model="parser", measure="mean IoU of 6 classes, with occluders", target=0.68),
    Target(key="parser/face_clean", model="parser", measure="face-mask IoU, clean"),
    Target(key="parser/face_occluded", model="parser", measure="face-mask IoU, with occluders", target=0.92),
)


def _prompt_targets(what: str) -> tuple[Target, ...]:
    key, measure = f"generator/{what}", f"prompt {what}"
    return (
        Target(key=f"{key}_generated", model="generator", measure=measure),
        Target(key=f"{key}_clean", model="generator", measure=f"{measure}, clean image as reference"),
        Target(key=f"{key}_loss", model="generator", measure=f"{measure}, paired loss", target=0.07, better="lower"),
    )


def _inside_targets(metric: str, name: str, better: Better) -> tuple[Target, ...]:
    return (
        Target(
            key=f"generator/{metric}_inside", model="generator", measure=f"{name} inside the occlusion", better=better
        ),
        *(
            Target(
                key=f"generator/{metric}_over_{stand_in}",
                model="generator",
                measure=f"{name} inside, how much better than {words}",
                target=0.0,
                claim=True,
            )
            for stand_in, words in _STAND_INS.items()
        ),
    )


_STAND_INS = {"occluded": "the occluded image", "inpainted": "OpenCV inpainting", "mean_face": "the mean face"}
_OUTSIDE = "SSIM outside the occlusion"
_GENERATOR: tuple[Target, ...] = (
    *_prompt_targets("precision"),
    *_prompt_targets("recall"),
    *_inside_targets("ssim", "SSIM", "higher"),
    *_inside_targets("l1", "L1", "lower"),
    # The issue asks for 0.85 outside and does not say whether the background counts: both are held to it.
    Target(key="generator/ssim_outside_face", model="generator", measure=f"{_OUTSIDE}, in the face", target=0.85),
    Target(key="generator/ssim_outside", model="generator", measure=f"{_OUTSIDE}, everywhere", target=0.85),
)
_ALL: tuple[Target, ...] = (
    Target(key="all/megabytes", model="all", measure="weights in the package, MB", target=30.0, better="lower"),
    Target(
        key="all/seconds_batch_1", model="all", measure="frozen prefix, s per 256 px image", target=0.5, better="lower"
    ),
    Target(key="all/seconds_batch_8", model="all", measure="the same in batches of 8", better="lower"),
)
_CHAIN: tuple[Target, ...] = (
    Target(key="chain/iou", model="chain", measure="occlusion IoU, one head", target=0.70, aim=0.76),
    Target(key="chain/iou_all", model="chain", measure="the same over all images"),
    Target(key="chain/true_prompts", model="chain", measure="occlusion IoU, prompts from truth"),
    Target(key="chain/ratio", model="chain", measure="IoU of the chain / prompts from truth", target=0.85),
    Target(
        key="chain/overfit",
        model="chain",
        measure="occlusion IoU, per-image overfitting (transductive)",
        target=0.74,
        aim=0.80,
    ),
    Target(key="chain/overfit_all", model="chain", measure="the same over all images"),
    Target(key="chain/real_dev_all", model="chain", measure="occlusion IoU, real_dev, one head", target=0.50, aim=0.65),
    Target(
        key="chain/clean_marked",
        model="chain",
        measure="clean faces with > 1 % false-positive area",
        target=0.10,
        better="lower",
    ),
    Target(
        key="chain/decoy_marked",
        model="chain",
        measure="faces with a seam and no occluder, marked in the same way",
        better="lower",
    ),
    Target(
        key="chain/clean_marked_always", model="chain", measure="clean faces marked without abstention", better="lower"
    ),
)
TARGETS: tuple[Target, ...] = (*_SAM, *_PARSER, *_GENERATOR, *_ALL, *_CHAIN)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the scorecard: a target and what was measured."""

    target: Target
    estimate: Estimate | None

    @property
    def met(self) -> Met:
        """Say whether the target is reached; "floor" = the target, but not the aim."""
        if self.estimate is None or math.isnan(self.estimate.mean):
            return "not measured"
        wanted, sign = self.target.target, 1 if self.target.better == "higher" else -1
        if wanted is None:
            return "reported"
        if self.target.claim:
            worst = self.estimate.low if sign > 0 else self.estimate.high
            return "yes" if sign * worst > sign * wanted else "no"
        if sign * self.estimate.mean < sign * wanted:
            return "no"
        return "floor" if self.target.aim is not None and sign * self.estimate.mean < sign * self.target.aim else "yes"


def assemble(
    estimates: Mapping[str, Estimate],
    models: Sequence[Model] | None = None,
    targets: Sequence[Target] = TARGETS,
) -> list[Row]:
    """Put estimates beside their targets, in the order of the targets.

    Args:
        estimates: by key; targets without one become rows that say so.
        models: only these; None = all.
        targets: rows of the table; those of locator and landmark detector stand in their own modules.

    Raises:
        ValueError: if an estimate has no target: it would vanish without a word.
    """
    unknown = sorted(set(estimates) - {target.key for target in targets})
    if unknown:
        raise ValueError(f"no row of the scorecard is called {', '.join(unknown)}: add it to TARGETS")
    return [
        Row(target=target, estimate=estimates.get(target.key))
        for target in targets
        if models is None or target.model in models
    ]


def to_markdown(rows: Sequence[Row]) -> str:
    """Render rows as a Markdown table."""
    lines = [
        "| model | measure | value [95 %] | n | ceiling | target | met | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target, estimate = row.target, row.estimate
        cells = [target.model, target.measure, _value(row), "", "", _wanted(target), row.met, ""]
        if estimate is not None and row.met != "not measured":
            cells[3], cells[4], cells[7] = str(estimate.n), _number(estimate.ceiling), estimate.note
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def to_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as plain dictionaries for JSON; what is not known is None, never NaN."""
    blank = dict.fromkeys(("mean", "low", "high", "n", "ceiling", "note"))
    dicts = []
    for row in rows:
        measured = blank if row.estimate is None else asdict(row.estimate)
        known = {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in measured.items()
        }
        dicts.append(asdict(row.target) | known | {"met": row.met})
    return dicts


def _value(row: Row) -> str:
    if row.estimate is None or row.met == "not measured":
        return "not measured"
    interval = "" if math.isnan(row.estimate.low) else f" [{_number(row.estimate.low)}, {_number(row.estimate.high)}]"
    return f"{_number(row.estimate.mean)}{interval}"


def _wanted(target: Target) -> str:
    if target.target is None:
        return ""
    if target.claim:
        return "> 0"
    aim = "" if target.aim is None else f" (aim {target.aim:.2f})"
    return f"{'>=' if target.better == 'higher' else '<='} {target.target:.2f}{aim}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
