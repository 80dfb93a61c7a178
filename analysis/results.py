"""Evaluation folders as written by `evaluate`, and the table of numbers made of several [design 5.11, 5.12].

Every number comes from `s3pot.metrics`; nothing is averaged here. Rows that carry no kind or face id (a user's own
folder) get a kind `unknown`, and each image is then a face of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from s3pot.metrics import FAILED, ID_COLUMNS, METRIC_COLUMNS, Interval, Summary, paired_difference, summarise

RANKING_METRIC = "iou_face_mask"
# Of the bootstrap: fixed, so that the same tables give the same report.
_SEED = 0
_NOTHING = Interval(mean=float("nan"), low=float("nan"), high=float("nan"), n=0, level=0.95)


class ResultsError(ValueError):
    """The per-image table of an evaluation is damaged; the message names it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """One evaluation folder.

    Attributes:
        name: what the report calls it.
        folder: where it lies.
        images: one row per image, indexed by id, with every metric column.
        config: text of its config.yaml; empty when there is none.
    """

    name: str
    folder: Path
    images: pd.DataFrame
    config: str

    @property
    def has_truth(self) -> bool:
        """Whether the truth of any image is known."""
        return bool(self.images["truth_pixels"].notna().any())


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table of numbers.

    Attributes:
        metric: name in the summary.
        label: heading.
        explanation: what it means.
        of: images it is averaged over.
        unit: "share" in [0, 1] or "percent".
    """

    metric: str
    label: str
    explanation: str
    of: Literal["occluded", "clean"] = "occluded"
    unit: Literal["share", "percent"] = "share"


HEADLINE = Column(
    metric=RANKING_METRIC,
    label="mean occlusion IoU",
    explanation="intersection over union of prediction and truth, prediction clipped to the predicted face mask",
)
COLUMN_GROUPS: dict[str, tuple[Column, ...]] = {
    "Masks": (
        Column(metric="iou_region", label="IoU in R", explanation="IoU, prediction clipped to the true face region R"),
        Column(metric="iou_unclipped", label="IoU unclipped", explanation="IoU of the prediction as it is"),
        Column(metric="precision", label="precision", explanation="share of the prediction that is occluder"),
        Column(metric="recall", label="recall", explanation="share of the occluder that is predicted"),
        Column(metric="boundary_f", label="boundary F", explanation="agreement of the two outlines"),
    ),
    "Prompts": (
        Column(metric="prompt_precision", label="precision", explanation="share of occlusion prompts on the occluder"),
        Column(metric="prompt_recall", label="recall", explanation="share of the occluder's tokens that are prompts"),
    ),
    "Faces without an occluder": (
        Column(
            metric="false_positive_area",
            label="false-positive area",
            explanation="predicted occlusion, in % of the face",
            of="clean",
            unit="percent",
        ),
        Column(
            metric="auroc",
            label="AUROC",
            explanation="how well the image score tells occluded from clean faces; 0.5 is chance",
            of="clean",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class NumbersRow:
    """Numbers of one evaluation.

    Attributes:
        name: the evaluation.
        headline: mean occlusion IoU with its interval.
        values: metric -> interval, for every column; n = 0 where there is nothing to average.
        difference: headline IoU minus that of the first evaluation, paired per image; None for the first.
    """

    name: str
    headline: Interval
    values: Mapping[str, Interval]
    difference: Interval | None


@dataclass(frozen=True, kw_only=True, eq=False)
class NumbersTable:
    """The table of numbers.

    Attributes:
        rows: one per evaluation, in order.
        kinds: occluder kinds the means run over; empty: means over all occluded images.
        left_out_kinds: occluder kinds with too few cut-outs for that.
        by_kind: kind -> IoU of every evaluation.
        caveats: sentences a reader of the numbers must know.
    """

    rows: tuple[NumbersRow, ...]
    kinds: tuple[str, ...]
    left_out_kinds: tuple[str, ...]
    by_kind: Mapping[str, tuple[Interval, ...]]
    caveats: tuple[str, ...]


def read_evaluation(name: str, folder: Path) -> Evaluation:
    """Read one evaluation folder.

    Raises:
        FileNotFoundError: if it holds no per-image table.
        ResultsError: if the table is unreadable, lacks columns, or holds an image twice.
    """
    path = folder / "per_image.parquet"
    table = read_table(path, ("id", "status"), "make it with `s3pot evaluate`", what=f"evaluation {name!r}: ")
    return evaluation_of(name, folder, table)


def evaluation_of(name: str, folder: Path, table: pd.DataFrame) -> Evaluation:
    """Make an evaluation of a per-image table.

    Args:
        name: what the report calls it.
        folder: where it lies.
        table: one row per image, with id and status.

    Raises:
        ResultsError: if it holds an image twice.
    """
    table = table.assign(id=table["id"].astype(str))
    twice = table.loc[table["id"].duplicated(), "id"].tolist()
    if twice:
        raise ResultsError(f"evaluation {name!r}: {folder / 'per_image.parquet'} holds {twice[0]!r} twice")
    # Optional columns become absent values, so that every reader finds them.
    every = dict.fromkeys(["status", "error", *ID_COLUMNS[2:], *METRIC_COLUMNS])
    images = table.set_index("id", drop=False).reindex(columns=["id", *every])
    images[list(METRIC_COLUMNS)] = images[list(METRIC_COLUMNS)].astype(float)
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return Evaluation(name=name, folder=folder, images=images.sort_index(), config=text)


def read_table(path: Path, columns: Sequence[str], remedy: str, *, what: str = "") -> pd.DataFrame:
    """Read a Parquet table of results.

    Args:
        path: the file.
        columns: that it must have.
        remedy: what to do when it is missing or damaged.
        what: begins the message.

    Raises:
        FileNotFoundError: if it is missing.
        ResultsError: if it is unreadable or lacks columns.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{what}{path} is missing: {remedy}")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{what}{path} cannot be read ({error}): {remedy}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ResultsError(f"{what}{path} lacks the columns {', '.join(missing)}: {remedy}")
    return table


def numbers_table(evaluations: Sequence[Evaluation]) -> NumbersTable | None:
    """Summarise evaluations side by side.

    The means run over occluder kinds when all evaluations with truth agree on the kinds that have enough cut-outs, and
    over occluded images otherwise.

    Returns:
        The table; None when no image has a truth.
    """
    if not any(evaluation.has_truth for evaluation in evaluations):
        return None
    tables = [_filled(evaluation.images) for evaluation in evaluations]
    summaries = [
        summarise(table, seed=_SEED) if evaluation.has_truth else None
        for evaluation, table in zip(evaluations, tables, strict=True)
    ]
    known = [summary for summary in summaries if summary is not None]
    agreed = {summary.headline_kinds for summary in known}
    kinds = next(iter(agreed)) if len(agreed) == 1 else ()
    scope = "headline" if kinds else "overall"
    rows = []
    for place, (evaluation, summary) in enumerate(zip(evaluations, summaries, strict=True)):
        difference = _difference(tables[place], tables[0], kinds) if place else None
        rows.append(_row(evaluation.name, summary, scope, difference))
    return NumbersTable(
        rows=tuple(rows),
        kinds=kinds,
        left_out_kinds=tuple(sorted({kind for summary in known for kind in summary.left_out_kinds})) if kinds else (),
        by_kind=_by_kind(summaries),
        caveats=tuple(_caveats(evaluations)),
    )


def _row(name: str, summary: Summary | None, scope: str, difference: Interval | None) -> NumbersRow:
    scopes = {"occluded": scope, "clean": "clean"}
    columns = [column for group in COLUMN_GROUPS.values() for column in group]
    return NumbersRow(
        name=name,
        headline=_NOTHING if summary is None else summary.value(RANKING_METRIC, scope=scope),
        values={
            column.metric: _NOTHING if summary is None else summary.value(column.metric, scope=scopes[column.of])
            for column in columns
        },
        difference=difference,
    )


def _by_kind(summaries: Sequence[Summary | None]) -> dict[str, tuple[Interval, ...]]:
    found = [
        {}
        if summary is None
        else {
            str(kind): summary.value(RANKING_METRIC, scope="kind", kind=str(kind))
            for kind in summary.metrics.loc[summary.metrics["scope"] == "kind", "kind"].unique()
        }
        for summary in summaries
    ]
    return {
        kind: tuple(of_evaluation.get(kind, _NOTHING) for of_evaluation in found)
        for kind in sorted(set().union(*found))
    }


def _difference(table: pd.DataFrame, first: pd.DataFrame, kinds: tuple[str, ...]) -> Interval:
    """Return the paired difference of the headline IoU over the images where both are defined."""
    pairs = table.assign(first=first[RANKING_METRIC]).dropna(subset=[RANKING_METRIC, "first"])
    if kinds:
        pairs = pairs[pairs["kind"].isin(kinds)]
    if pairs.empty or (kinds and set(pairs["kind"]) != set(kinds)):
        return _NOTHING
    return paired_difference(
        pairs[RANKING_METRIC].to_numpy(),
        pairs["first"].to_numpy(),
        pairs["face_id"].tolist(),
        pairs["cutout_id"].tolist(),
        rng=np.random.default_rng(_SEED),
        strata=pairs["kind"].tolist() if kinds else None,
    )


def _filled(images: pd.DataFrame) -> pd.DataFrame:
    """Return the images that bear on the numbers, with kind, face and cut-out of the measured ones filled in."""
    measured = images["status"] != FAILED
    # Images of unknown truth say nothing; failed ones stay, because their cut-outs count for the choice of kinds.
    filled = images[images["truth_pixels"].notna() | ~measured].copy()
    filled["kind"] = filled["kind"].astype(object).where(filled["kind"].notna() | ~measured, "unknown")
    for name in ("face_id", "cutout_id"):
        filled[name] = filled[name].astype(object).where(filled[name].notna(), filled["id"])
    return filled


def _caveats(evaluations: Sequence[Evaluation]) -> list[str]:
    caveats = []
    # A failed image has no number: rows are means over different images as soon as failures differ.
    used = [frozenset(evaluation.images.index[evaluation.images["truth_pixels"].notna()]) for evaluation in evaluations]
    if len(set(used)) > 1:
        caveats.append("The evaluations do not cover the same images: compare rows by the paired difference only.")
    anonymous = max(
        int((evaluation.images["face_id"].isna() & evaluation.images["truth_pixels"].notna()).sum())
        for evaluation in evaluations
    )
    if anonymous:
        caveats.append(f"{anonymous} images carry no face id; each counts as a face, so intervals may be too narrow.")
    failed = {evaluation.name: int((evaluation.images["status"] == FAILED).sum()) for evaluation in evaluations}
    if any(failed.values()):
        counts = ", ".join(f"{name} {count}" for name, count in failed.items())
        caveats.append(f"Failed images are not in the numbers: {counts}.")
    return caveats
