"""The images of a page: chosen ones with every stage in pictures, and the list of all to sort and filter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from analysis import stage_pictures
from analysis.case_choice import Section, choose_sections
from analysis.case_panels import Panel, draw_panels, read_cases, similarity_limits
from analysis.image_list import ValueColumn, list_evaluations
from analysis.page import scale_colors
from analysis.results import RANKING_METRIC, Evaluation
from s3pot.metrics import FAILED
from s3pot.store import PromptStore


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image as the page shows it.

    Attributes:
        id: image id.
        kind: kind of occluder; empty when unknown.
        status: of the store, or of the evaluation for an image that is not in the store.
        scores: one sentence per evaluation, in order.
        panels: pictures; empty without `images`.
        complaints: what is missing.
    """

    id: str
    kind: str
    status: str
    scores: tuple[str, ...]
    panels: tuple[Panel, ...] = ()
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """What the images of a page are taken from.

    Attributes:
        store: holds the stages; None when it is gone, and then there are no pictures.
        evaluations: the last one orders the images, the first is what it is compared with.
        without_masks: names of evaluations that are numbers alone, so that no mask is looked for.
        extra: further numbers per image.
    """

    store: PromptStore | None
    evaluations: Sequence[Evaluation]
    without_masks: tuple[str, ...] = ()
    extra: Mapping[ValueColumn, pd.Series] = field(default_factory=dict)

    def manifest(self) -> pd.DataFrame:
        """Read id, status, error and kind of what the store holds, indexed by id."""
        if self.store is None:
            return pd.DataFrame(columns=["id", "status", "error", "kind"]).set_index("id", drop=False)
        return self.store.rows(["status", "error", "kind"]).set_index("id", drop=False)

    def sections(self, pictures: int) -> list[Section]:
        """Choose at most so many images."""
        return choose_sections(self.manifest(), self.evaluations, pictures)

    def values(self, *, pictures: int, images: bool) -> dict[str, Any]:
        """Return what the templates of legend and images ask for.

        Args:
            pictures: at most this many images are shown.
            images: embed pictures of faces.
        """
        manifest, evaluations = self.manifest(), list(self.evaluations)
        sections = self.sections(pictures)
        shown = [image_id for section in sections for image_id in section.ids]
        cases = _cases(manifest, evaluations, shown)
        limits = (0.0, 1.0)
        if images and self.store is not None:
            cases, limits = self._with_panels(self.store, cases)
        return {
            "images": images and self.store is not None,
            "evaluations": evaluations,
            "sections": sections,
            "cases": cases,
            "listed": list_evaluations(evaluations, self.extra, shown) if evaluations else None,
            "has_truth": any(evaluation.has_truth for evaluation in evaluations),
            "limits": limits,
            "scale": scale_colors(),
            "pictures": stage_pictures,
        }

    def _with_panels(
        self, store: PromptStore, cases: Mapping[str, Case]
    ) -> tuple[dict[str, Case], tuple[float, float]]:
        stored = read_cases(store, cases)
        limits = similarity_limits(list(stored.values()))
        masked = [place for place, one in enumerate(self.evaluations) if one.name not in self.without_masks]
        evaluations = [self.evaluations[place] for place in masked]
        drawn = {}
        for image_id, case in cases.items():
            panels: list[Panel] = []
            complaints = ["This image is not in the store: there is nothing to draw."]
            if image_id in stored:
                scores = [case.scores[place] for place in masked]
                panels = draw_panels(stored[image_id], evaluations, scores, limits)
                complaints = stored[image_id].complaints
            drawn[image_id] = replace(case, panels=tuple(panels), complaints=tuple(complaints))
        return drawn, limits


def _cases(manifest: pd.DataFrame, evaluations: Sequence[Evaluation], ids: Sequence[str]) -> dict[str, Case]:
    cases = {}
    for image_id in ids:
        tables = [manifest, *(evaluation.images for evaluation in evaluations)]
        rows = [table.loc[image_id] for table in tables if image_id in table.index]
        kinds = [row["kind"] for row in rows if isinstance(row["kind"], str)]
        cases[image_id] = Case(
            id=image_id,
            kind=kinds[0] if kinds else "",
            status=str(rows[0]["status"]),
            scores=tuple(_score(evaluation, image_id) for evaluation in evaluations),
        )
    return cases


def _score(evaluation: Evaluation, image_id: str) -> str:
    if image_id not in evaluation.images.index:
        return "not evaluated"
    row = evaluation.images.loc[image_id]
    if row["status"] == FAILED:
        return "failed"
    truth_pixels, area, score = (
        float(row[name]) for name in ("truth_pixels", "false_positive_area", "occlusion_score")
    )
    if truth_pixels > 0:
        return f"IoU {row[RANKING_METRIC]:.2f}"
    if truth_pixels == 0:
        return "no face found" if math.isnan(area) else f"{area:.1f} % false positive"
    return "no truth" if math.isnan(score) else f"score {score:.2f}"
