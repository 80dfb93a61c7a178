"""From a table of per-image metrics to the summary of a run.

A row is `id, status, kind, face_id, cutout_id` plus the `METRIC_COLUMNS` of `per_image.py`. Rows fall into four groups:

- failed: `status == "failed"`; no metrics, counted;
- truth unknown: `truth_pixels` is NaN; counted;
- occluded: `truth_pixels > 0`; IoU and everything that goes with it;
- clean: `truth_pixels == 0` (no occluder, a seam without occluder, an occluder beside the face): false-positive area.

Other statuses (no face found, no prompts) are results: with truth they count, as IoU 0.

Headline: the mean over occluder kinds with at least 10 cut-outs of the kind's mean per-image IoU, prediction clipped
to the predicted face.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from s3pot.metrics.abstention import AREA_LIMIT_PERCENT, auroc
from s3pot.metrics.intervals import Interval, cluster_bootstrap_ratio
from s3pot.metrics.per_image import METRIC_COLUMNS, OCCLUDED_METRICS
from s3pot.metrics.slices import ATTRIBUTE, slices

FAILED = "failed"
SLICED_METRICS = ("iou_face_mask", "precision", "recall", "boundary_f", "boundary_iou")
ID_COLUMNS = ("id", "status", "kind", "face_id", "cutout_id")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Summary of one run."""

    metrics: pd.DataFrame
    """One row per scope, kind and metric, with `mean`, `low`, `high`, `level`, `n` (images used) and `undefined`
    (images of that scope where the metric is NaN). Scopes: `headline`, `overall` and `kind` over occluded images
    (`OCCLUDED_METRICS`, `pooled_iou`); `slice` over the groups of `slices.py`, with their name as kind
    (`SLICED_METRICS`); `clean` and `clean_kind` over clean ones (`false_positive_area`,
    `share_above_limit`, and `auroc` against all occluded images, which carries no interval)."""
    counts: dict[str, int]
    """`rows`, `failed`, `truth_unknown`, `occluded`, `clean`, and `status_<status>` for every status in the table."""
    headline_kinds: tuple[str, ...]
    """Occluder kinds with enough cut-outs."""
    left_out_kinds: tuple[str, ...]
    """Occluder kinds with too few cut-outs for the headline."""

    def value(self, metric: str, *, scope: str = "headline", kind: str = "") -> Interval:
        """Return one entry of the table; its level is the summary's.

        Raises:
            KeyError: there is no such entry.
        """
        table = self.metrics
        rows = table[(table["scope"] == scope) & (table["kind"] == kind) & (table["metric"] == metric)]
        if len(rows) != 1:
            raise KeyError(f"no entry scope={scope!r} kind={kind!r} metric={metric!r} in the summary")
        row = rows.iloc[0]
        return Interval(
            mean=float(row["mean"]),
            low=float(row["low"]),
            high=float(row["high"]),
            n=int(row["n"]),
            level=float(row["level"]),
        )


def summarise(
    table: pd.DataFrame,
    *,
    seed: int,
    replicates: int = 2000,
    level: float = 0.95,
    min_cutouts: int = 10,
) -> Summary:
    """Summarise a per-image table.

    Which kinds make the headline is decided by the data alone: the cut-outs of all rows count, failed ones too, so
    that two methods on the same images share one headline. A headline kind without a single defined value makes the
    headline NaN. An image without `cutout_id` (a real photograph) is its own cut-out.

    Args:
        table: one row per image, `ID_COLUMNS`, `METRIC_COLUMNS` and perhaps attributes; metric columns that are
            missing count as undefined, except `truth_pixels`, which must be there.
        seed: of the bootstrap; every entry starts from it afresh, so entries depend neither on each other nor on row
            order.
        replicates: bootstrap replicates per entry.
        level: coverage of the intervals.
        min_cutouts: cut-outs that a kind needs for the headline.

    Raises:
        ValueError: no rows, a column is missing, an `id` is repeated, or an id is empty where it is needed.
    """
    rows = _checked(table)
    failed = rows["status"] == FAILED
    truth_pixels = rows["truth_pixels"].where(~failed)
    occluded, clean = rows[truth_pixels > 0], rows[truth_pixels == 0]
    headline_kinds = _headline_kinds(rows, truth_pixels, min_cutouts)

    entries = _Entries(seed=seed, replicates=replicates, level=level)
    entries.add_occluded("headline", "", occluded[occluded["kind"].isin(headline_kinds)], strata=headline_kinds)
    entries.add_occluded("overall", "", occluded)
    for kind, of_kind in occluded.groupby("kind"):
        entries.add_occluded("kind", str(kind), of_kind)
    for name, chosen in slices(occluded).items():
        entries.add_slice(name, occluded[chosen])
    entries.add_clean("clean", "", clean, occluded)
    for kind, of_kind in clean.groupby("kind"):
        entries.add_clean("clean_kind", str(kind), of_kind, occluded)
    counts = {
        "rows": len(rows),
        "failed": int(failed.sum()),
        "truth_unknown": int((truth_pixels.isna() & ~failed).sum()),
        "occluded": len(occluded),
        "clean": len(clean),
    }
    counts |= {f"status_{status}": int(count) for status, count in sorted(rows["status"].value_counts().items())}
    return Summary(
        metrics=pd.DataFrame(entries.rows),
        counts=counts,
        headline_kinds=tuple(headline_kinds),
        left_out_kinds=tuple(sorted(set(occluded["kind"]) - set(headline_kinds))),
    )


@dataclass
class _Entries:
    """Collects the rows of the summary table."""

    seed: int
    replicates: int
    level: float
    rows: list[dict[str, str | float | int]] = field(default_factory=list)

    def add_occluded(self, scope: str, kind: str, images: pd.DataFrame, *, strata: list[str] | None = None) -> None:
        """Add every metric of occluded images; with `strata` as the mean over those kinds."""
        for metric in OCCLUDED_METRICS:
            self._add_ratio(scope, kind, metric, images, images[metric], strata=strata)
        self._add_ratio(scope, kind, "pooled_iou", images, images["intersection"], images["union"], strata=strata)

    def add_slice(self, name: str, images: pd.DataFrame) -> None:
        """Add the sliced metrics of one group of occluded images."""
        for metric in SLICED_METRICS:
            self._add_ratio("slice", name, metric, images, images[metric])

    def add_clean(self, scope: str, kind: str, images: pd.DataFrame, occluded: pd.DataFrame) -> None:
        """Add the metrics of faces without an occluder."""
        area = images["false_positive_area"]
        self._add_ratio(scope, kind, "false_positive_area", images, area)
        above = (area > AREA_LIMIT_PERCENT).astype(float).where(area.notna())
        self._add_ratio(scope, kind, "share_above_limit", images, above)
        scores, occluded_scores = images["occlusion_score"].dropna(), occluded["occlusion_score"].dropna()
        used, present = len(scores) + len(occluded_scores), len(images) + len(occluded)
        separation = auroc(occluded_scores.to_numpy(float), scores.to_numpy(float))
        point = Interval(mean=separation, low=math.nan, high=math.nan, n=used, level=self.level)
        self._add(scope, kind, "auroc", point, undefined=present - used)

    def _add_ratio(
        self,
        scope: str,
        kind: str,
        metric: str,
        images: pd.DataFrame,
        numerator: pd.Series,
        denominator: pd.Series | None = None,
        *,
        strata: list[str] | None = None,
    ) -> None:
        defined = numerator.notna() if denominator is None else numerator.notna() & denominator.notna()
        used = images[defined]
        if strata is not None and set(used["kind"]) != set(strata):
            interval = Interval(mean=math.nan, low=math.nan, high=math.nan, n=len(used), level=self.level)
        else:
            interval = cluster_bootstrap_ratio(
                numerator[defined].to_numpy(float),
                np.ones(len(used)) if denominator is None else denominator[defined].to_numpy(float),
                used["face_id"].tolist(),
                used["cutout_id"].tolist(),
                rng=np.random.default_rng(self.seed),
                strata=None if strata is None else used["kind"].tolist(),
                replicates=self.replicates,
                level=self.level,
            )
        self._add(scope, kind, metric, interval, undefined=len(images) - len(used))

    def _add(self, scope: str, kind: str, metric: str, interval: Interval, *, undefined: int) -> None:
        names: dict[str, str | float | int] = {"scope": scope, "kind": kind, "metric": metric}
        values: dict[str, str | float | int] = {
            "mean": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "level": interval.level,
            "n": interval.n,
            "undefined": undefined,
        }
        self.rows.append(names | values)


def _headline_kinds(rows: pd.DataFrame, truth_pixels: pd.Series, min_cutouts: int) -> list[str]:
    """Return the occluder kinds with enough cut-outs, sorted.

    A kind whose rows all failed may or may not be an occluder; it is kept, to show up as NaN instead of vanishing.
    """
    cutouts_of_kind = rows.groupby("kind")["cutout_id"].nunique()
    enough = {str(kind) for kind, cutouts in cutouts_of_kind.items() if cutouts >= min_cutouts}
    without_truth = set(rows.loc[truth_pixels.notna(), "kind"]) - set(rows.loc[truth_pixels > 0, "kind"])
    return sorted(enough - without_truth)


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every column there, ids as strings and absent cut-outs replaced by the image's own id."""
    missing = [name for name in (*ID_COLUMNS, "truth_pixels") if name not in table.columns]
    if missing or not len(table):
        raise ValueError(f"expected a per-image table with rows; got {len(table)} rows, missing columns {missing}")
    if table["id"].duplicated().any():
        raise ValueError(f"ids must be unique; repeated: {sorted(set(table.loc[table['id'].duplicated(), 'id']))[:5]}")
    needed = table[["id", "status"]].isna().any(axis=1)
    measured = table["status"] != FAILED
    empty = needed | (measured & table[["kind", "face_id"]].isna().any(axis=1))
    if empty.any():
        raise ValueError(f"id, status, kind and face_id must be filled; empty in {table.loc[empty, 'id'].tolist()[:5]}")
    attributes = [name for name in table.columns if str(name).startswith(ATTRIBUTE)]
    rows = table.reindex(columns=[*ID_COLUMNS, *METRIC_COLUMNS, *attributes])
    rows["cutout_id"] = rows["cutout_id"].where(rows["cutout_id"].notna(), rows["id"])
    for name in ("kind", "face_id", "cutout_id"):
        rows[name] = rows[name].astype(str).where(rows[name].notna(), None)
    for name in METRIC_COLUMNS:
        rows[name] = rows[name].astype(float)
    return rows
