"""What the paper claims about the order of its rows, and whether ours agrees [S3POT 4.1, 4.2; design 6].

    GS > Otsu > TH      the reweighter (SA) helps      FE helps      all three terms are best      per image > standard

A claim is decided by the paired difference per image: `undecided` where its interval holds 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.paper_cells import selection_cells, selection_key, terms_cells, terms_key
from analysis.paper_numbers import TABLE_1, TABLE_2, TABLE_3
from analysis.results import Evaluation, numbers_table
from analysis.sweep_results import Sweep
from s3pot.metrics import Interval

Verdict = Literal["agrees", "opposite", "undecided"]
_SELECTORS = {"threshold": "TH", "otsu": "Otsu", "greedy": "GS"}
_PAPER_2 = {selection_key(row): row.iou for row in TABLE_2}
_PAPER_3 = {terms_key(row): row.iou for row in TABLE_3}
_OURS = ("per_image", "standard")
_ALL_TERMS = (True, True, True)


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One claim.

    Attributes:
        claim: the paper's words for it.
        setting: where it was measured.
        paper: the two numbers of the paper in percent, (better, worse); None: the paper has no such pair.
        difference: ours, better minus worse as the paper has it, paired per image.
    """

    claim: str
    setting: str
    paper: tuple[float, float] | None
    difference: Interval

    @property
    def verdict(self) -> Verdict:
        """Whether ours agrees."""
        if not self.difference.excludes(0.0):
            return "undecided"
        return "agrees" if self.difference.mean > 0 else "opposite"


def selection_orderings(sweep: Sweep) -> list[Ordering]:
    """Check the claims of Table 2 that the sweep has both cells of.

    Raises:
        ResultsError: if the sweep lacks the axes.
    """
    cells = selection_cells(sweep).printed
    pairs = []
    for better, worse in (("greedy", "otsu"), ("otsu", "threshold")):
        claim = f"{_SELECTORS[better]} > {_SELECTORS[worse]}"
        pairs += [(claim, (fe, better, sa), (fe, worse, sa)) for fe in (True, False) for sa in (False, True)]
    settings = [(fe, selector) for fe in (True, False) for selector in _SELECTORS]
    pairs += [("SA helps", (fe, selector, True), (fe, selector, False)) for fe, selector in settings]
    pairs += [
        ("FE helps", (True, selector, sa), (False, selector, sa)) for selector in _SELECTORS for sa in (False, True)
    ]
    found = []
    for claim, better_key, worse_key in pairs:
        if better_key in cells and worse_key in cells:
            known = better_key in _PAPER_2 and worse_key in _PAPER_2
            found.append(
                Ordering(
                    claim=claim,
                    setting=_setting(better_key, worse_key),
                    paper=(_PAPER_2[better_key], _PAPER_2[worse_key]) if known else None,
                    difference=sweep.difference(cells[better_key], cells[worse_key]),
                )
            )
    return found


def terms_orderings(sweep: Sweep) -> list[Ordering]:
    """Check the claim of Table 3, all three terms above every subset.

    Raises:
        ResultsError: if the sweep lacks the axes.
    """
    cells = terms_cells(sweep).printed
    if _ALL_TERMS not in cells:
        return []
    return [
        Ordering(
            claim="all three terms are best",
            setting=f"against {_terms(key)}",
            paper=(_PAPER_3[_ALL_TERMS], iou),
            difference=sweep.difference(cells[_ALL_TERMS], cells[key]),
        )
        for key, iou in _PAPER_3.items()
        if key != _ALL_TERMS and key in cells
    ]


def method_orderings(evaluations: Sequence[Evaluation]) -> list[Ordering]:
    """Check the claims of Table 1 between rows that were evaluated here: ours above the others, per image above all.

    The difference is averaged as the table is: over occluder kinds where they have enough cut-outs.
    """
    by_name = {evaluation.name: evaluation for evaluation in evaluations}
    printed = sorted((row for row in TABLE_1 if row.key in by_name), key=lambda row: -row.iou)
    found = []
    for place, better in enumerate(printed):
        for worse in printed[place + 1 :]:
            numbers = numbers_table([by_name[worse.key], by_name[better.key]])
            difference = None if numbers is None else numbers.rows[1].difference
            if better.key in _OURS and numbers is not None and difference is not None:
                setting = f"mean over {', '.join(numbers.kinds)}" if numbers.kinds else "all occluded images"
                pair = (better.iou, worse.iou)
                claim = f"{better.method} > {worse.method}"
                found.append(Ordering(claim=claim, setting=setting, paper=pair, difference=difference))
    return found


def _setting(better: tuple[bool, str, bool], worse: tuple[bool, str, bool]) -> str:
    """Name what both cells share."""
    shared = []
    if better[0] == worse[0]:
        shared.append("FE" if better[0] else "no FE")
    if better[1] == worse[1]:
        shared.append(_SELECTORS[better[1]])
    if better[2] == worse[2]:
        shared.append("SA" if better[2] else "no SA")
    return ", ".join(shared)


def _terms(key: tuple[bool, bool, bool]) -> str:
    names = ("recall_face", "recall_occ", "face_penalty")
    return " + ".join(name for name, used in zip(names, key, strict=True) if used)
