"""The list of all images of a page: what it can be sorted and filtered by."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.results import RANKING_METRIC, Evaluation

ROWS_LISTED = 3000


@dataclass(frozen=True, kw_only=True)
class ValueColumn:
    """One number of every image.

    Attributes:
        key: names it in the address of a sorted page, such as `#sort=iou`.
        label: heading.
        explanation: what it means.
        signed: whether it is a difference.
        unit: "share", "percent" or "count".
    """

    key: str
    label: str
    explanation: str
    signed: bool = False
    unit: str = "share"


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One image.

    Attributes:
        id: image id.
        kind: kind of occluder; empty when unknown.
        status: of the evaluation.
        values: by the key of the column; NaN where undefined.
    """

    id: str
    kind: str
    status: str
    values: Mapping[str, float]

    @property
    def data(self) -> str:
        """The values as JSON, for the page's script; undefined ones are left out."""
        return json.dumps({key: round(value, 6) for key, value in self.values.items() if math.isfinite(value)})


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageList:
    """All images of a page.

    Attributes:
        columns: numbers; the first is what the range filter asks about.
        rows: by id.
        total: number of images; more than rows when there are too many to list.
    """

    columns: tuple[ValueColumn, ...]
    rows: Mapping[str, ImageRow]
    total: int

    @property
    def kinds(self) -> list[str]:
        """Kinds of occluder, sorted."""
        return sorted({row.kind for row in self.rows.values()} - {""})

    @property
    def statuses(self) -> list[str]:
        """Statuses, `ok` first."""
        return sorted({row.status for row in self.rows.values()}, key=lambda status: (status != "ok", status))


def list_images(table: pd.DataFrame, columns: Sequence[ValueColumn], keep: Sequence[str] = ()) -> ImageList:
    """Make the list.

    Args:
        table: indexed by id; kind, status and a column for the key of each of `columns`.
        columns: numbers to list.
        keep: ids that are listed however many there are: those shown with pictures.
    """
    shown = table
    if len(table) > ROWS_LISTED:
        # Those worth a look: the lowest of the first number.
        lowest = table[columns[0].key].sort_values(kind="stable").index[:ROWS_LISTED]
        shown = table.loc[sorted({*lowest, *(image_id for image_id in keep if image_id in table.index)})]
    rows = {}
    for image_id, row in shown.iterrows():
        kind = row["kind"]
        rows[str(image_id)] = ImageRow(
            id=str(image_id),
            kind=kind if isinstance(kind, str) else "",
            status=str(row["status"]),
            values={column.key: float(row[column.key]) for column in columns},
        )
    return ImageList(columns=tuple(columns), rows=rows, total=len(table))


def list_evaluations(
    evaluations: Sequence[Evaluation], extra: Mapping[ValueColumn, pd.Series] | None = None, keep: Sequence[str] = ()
) -> ImageList:
    """List the images of evaluations: IoU of each, the last first, and what the last gains over the first.

    Args:
        evaluations: at least one.
        extra: further numbers by id.
        keep: ids that are listed however many there are.
    """
    last = evaluations[-1]
    ids = sorted({image_id for evaluation in evaluations for image_id in evaluation.images.index})
    table = pd.DataFrame(index=pd.Index(ids, name="id"))
    for name in ("kind", "status"):
        table[name] = None
        for evaluation in reversed(evaluations):
            values = evaluation.images[name].astype(object).reindex(ids)
            table[name] = table[name].where(table[name].notna(), values)
    columns = [_iou_column("iou", last)]
    table["iou"] = last.images[RANKING_METRIC].reindex(ids)
    for number, evaluation in enumerate(evaluations[:-1], start=1):
        columns.append(_iou_column(f"iou{number}", evaluation))
        table[f"iou{number}"] = evaluation.images[RANKING_METRIC].reindex(ids)
    if len(evaluations) > 1:
        first = evaluations[0]
        explanation = f"IoU of {last.name} minus IoU of {first.name}"
        columns.append(
            ValueColumn(key="gain", label=f"{last.name} − {first.name}", explanation=explanation, signed=True)
        )
        table["gain"] = table["iou"] - table["iou1"]
    for column, series in (extra or {}).items():
        columns.append(column)
        table[column.key] = series.reindex(ids).astype(float)
    return list_images(table, columns, keep)


def _iou_column(key: str, evaluation: Evaluation) -> ValueColumn:
    return ValueColumn(key=key, label=f"IoU {evaluation.name}", explanation=f"occlusion IoU of {evaluation.name}")
