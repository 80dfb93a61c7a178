"""The page about a fleet of overfitted heads: before and after, gains, curves, images.

    per_image.parquet    columns of `evaluate`, beside them iou_before, objectives, steps, why it stopped, seconds
    curves.parquet       objective per image and step
    masks/<id>.png       masks after

Transductive: every head has seen the image it is judged on, though never its truth [design 5.14].
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from analysis.figures import Drawing, draw_before_after, draw_gains, draw_overfitting
from analysis.gallery import Gallery
from analysis.image_list import ValueColumn
from analysis.report import write_images_page
from analysis.results import RANKING_METRIC, Evaluation, read_evaluation, read_table
from analysis.sweep_results import image_means, paired
from s3pot.config import load_yaml
from s3pot.metrics import METRIC_COLUMNS
from s3pot.store import PromptStore, StoreError

_REMEDY = "name a folder that `s3pot overfit` wrote"
_KNOWN_BEFORE = ("truth_pixels",)
_BEFORE, _AFTER = "before", "overfitted"


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleet:
    """One fleet folder.

    Attributes:
        folder: where it lies.
        before: the same images before overfitting: IoU alone.
        after: the evaluation.
        table: per_image.parquet, indexed by id.
        curves: id, step, total; empty when the run kept none.
        store: folder that config.yaml names; None when it names none.
    """

    folder: Path
    before: Evaluation
    after: Evaluation
    table: pd.DataFrame
    curves: pd.DataFrame
    store: Path | None


def read_fleet(folder: Path) -> Fleet:
    """Read a fleet folder.

    Raises:
        FileNotFoundError: if its table is missing.
        ResultsError: if a table is damaged.
        ConfigError: if config.yaml is.
    """
    table = read_table(folder / "per_image.parquet", ("id", "status", "iou_before"), _REMEDY, what="fleet: ")
    after = read_evaluation(_AFTER, folder)
    table = table.assign(id=table["id"].astype(str)).set_index("id", drop=False).loc[after.images.index]
    # Everything else of the table is of the masks after.
    unknown = [name for name in METRIC_COLUMNS if name not in _KNOWN_BEFORE]
    images = after.images.assign(**dict.fromkeys(unknown, float("nan")))
    images[RANKING_METRIC] = table["iou_before"].astype(float)
    curves = folder / "curves.parquet"
    return Fleet(
        folder=folder,
        before=replace(after, name=_BEFORE, images=images, config=""),
        after=after,
        table=table,
        curves=read_table(curves, ("id", "step", "total"), _REMEDY) if curves.is_file() else pd.DataFrame(),
        store=_store_of(folder / "config.yaml"),
    )


def write_fleet_report(
    folder: Path,
    evaluations: Mapping[str, Path],
    out: Path,
    *,
    title: str,
    note: str = "",
    pictures: int = 24,
    images: bool = False,
    store: Path | None = None,
) -> Path:
    """Write the page of a fleet.

    Args:
        folder: of the fleet.
        evaluations: further evaluations on the same images by name, such as the head that it started from.
        out: HTML file; figures go to `figures/` beside it.
        title: heading.
        note: what a reader must know first.
        pictures: at most this many images are shown.
        images: embed pictures of faces.
        store: folder of the store; None = the one the fleet ran on.

    Returns:
        `out`.

    Raises:
        FileNotFoundError: if a table is missing.
        ResultsError: if one is damaged.
        StoreError: if the named store is none.
    """
    fleet = read_fleet(folder)
    others = [read_evaluation(name, path) for name, path in evaluations.items()]
    gallery = Gallery(
        store=PromptStore(store) if store is not None else _open(fleet.store),
        evaluations=[fleet.before, *others, fleet.after],
        without_masks=(_BEFORE,),
        extra=_numbers(fleet.table),
    )
    return write_images_page(
        gallery,
        out,
        title=title,
        note=note,
        pictures=pictures,
        images=images,
        drawings=draw_fleet(fleet),
        facts=_facts(fleet),
    )


def draw_fleet(fleet: Fleet) -> list[Drawing]:
    """Draw gains, IoU before and after, and the objective per step; what there is no data for is left out."""
    # The ids are the index too, under the same name.
    tables = [image_means(one.images.reset_index(drop=True), RANKING_METRIC) for one in (fleet.after, fleet.before)]
    mean = paired(*tables, draws=("overfit", "gain"))
    found = (draw_gains(fleet.table, mean), draw_before_after(fleet.table), draw_overfitting(fleet.curves))
    return [drawing for drawing in found if drawing is not None]


def _numbers(table: pd.DataFrame) -> dict[ValueColumn, pd.Series]:
    columns = {
        "steps": ValueColumn(key="steps", label="steps", explanation="optimizer steps taken", unit="count"),
        "objective_before": ValueColumn(key="before", label="objective before", explanation="objective at step 0"),
        "objective_after": ValueColumn(key="after", label="objective after", explanation="objective at the last step"),
        "seconds": ValueColumn(key="seconds", label="seconds", explanation="wall time of the image"),
    }
    return {column: table[name] for name, column in columns.items() if name in table.columns}


def _facts(fleet: Fleet) -> dict[str, str]:
    facts = {"Fleet": fleet.folder.name, "Images": str(len(fleet.table))}
    for name, label in (("start", "Started from"), ("stopped", "Stopped")):
        if name in fleet.table.columns:
            counts = fleet.table[name].value_counts()
            facts[label] = ", ".join(f"{value} {count}" for value, count in counts.items())
    if "steps" in fleet.table.columns and fleet.table["steps"].notna().any():
        facts["Steps"] = f"median {fleet.table['steps'].median():g}, at most {fleet.table['steps'].max():g}"
    if "seconds" in fleet.table.columns and fleet.table["seconds"].notna().any():
        facts["Seconds per image"] = f"{fleet.table['seconds'].mean():.2f}"
    return facts


def _store_of(config: Path) -> Path | None:
    store = load_yaml(config).get("store") if config.is_file() else None
    return Path(store) if isinstance(store, str) else None


def _open(store: Path | None) -> PromptStore | None:
    """Open the store that the fleet ran on; it may be gone, and the numbers are there all the same."""
    try:
        return None if store is None else PromptStore(store)
    except StoreError:
        return None
