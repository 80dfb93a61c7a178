"""The tables of a fleet: read from what its trials wrote, summed up, drawn, and sent to MLflow by the driver alone."""

import math
from collections.abc import Set
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.figures import draw_before_after, draw_gains, draw_overfitting, write_drawings
from ray_jobs.evaluate import finish_evaluation
from ray_jobs.overfit_trial import CURVE_COLUMNS, ROW_SCHEMA, write_part
from ray_jobs.tracking import TrackedRun
from s3pot.evaluation import mean_iou
from s3pot.metrics import FAILED
from s3pot.metrics.intervals import Interval, paired_difference
from s3pot.seeding import generator

CURVES_FILE = "curves.parquet"
_CHILD_NUMBERS = ("objective_before", "objective_after", "iou_before", "iou_face_mask", "steps", "seconds")


def read_rows(folder: Path) -> pd.DataFrame:
    """Read the rows of all images of a run, sorted by id, with their curves.

    An image that was done twice has the same result in both rows.
    """
    parts = [pq.read_table(path) for path in _parts(folder)]
    table = pa.concat_tables([ROW_SCHEMA.empty_table(), *parts]).to_pandas()
    return table.drop_duplicates("id", keep="last").sort_values("id", ignore_index=True)


def withdraw_failed(folder: Path, ids: Set[str]) -> int:
    """Take the rows of images that failed out of the run's tables, so that they are missing; returns how many.

    Args:
        folder: of the run.
        ids: only of these.
    """
    count = 0
    for path in _parts(folder):
        rows = pq.read_table(path).to_pylist()
        kept = [row for row in rows if row["status"] != FAILED or row["id"] not in ids]
        if len(kept) < len(rows):
            count += len(rows) - len(kept)
            if kept:
                write_part(folder, kept)
            path.unlink()
    return count


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("[!.]*.parquet"))


def curves_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the loss curves, one row per image and step: id, step (optimizer steps taken), and the objective's terms.

    Images that failed have none.
    """
    names = dict(zip(CURVE_COLUMNS, (column.removeprefix("curve_") for column in CURVE_COLUMNS), strict=True))
    whole = rows[rows["status"] != FAILED].reindex(columns=["id", *CURVE_COLUMNS])
    curves = whole.explode(list(CURVE_COLUMNS), ignore_index=True).rename(columns=names)
    curves.insert(1, "step", curves.groupby("id").cumcount().astype(int))
    return curves.astype(dict.fromkeys(names.values(), float))


def gain_of(images: pd.DataFrame) -> Interval:
    """Return the mean of IoU after minus before over images with truth, paired per image, with its interval."""
    images = images.dropna(subset=["iou_before", "iou_face_mask"])
    if images.empty:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, n=0, level=0.95)
    # Without ids every image is a face, and a cut-out, of its own.
    faces, cutouts = (images[name].where(images[name].notna(), images["id"]) for name in ("face_id", "cutout_id"))
    return paired_difference(
        images["iou_face_mask"].to_numpy(),
        images["iou_before"].to_numpy(),
        faces.astype(str).tolist(),
        cutouts.astype(str).tolist(),
        rng=generator(0, "overfit", "gain"),
    )


def finish_fleet(rows: pd.DataFrame, folder: Path, tracked: TrackedRun, seconds_per_image: float) -> str:
    """Write per_image.parquet, curves.parquet, summary.json and figures, and log them; returns the summary in a line.

    Args:
        rows: of `read_rows`.
        folder: of the run.
        tracked: its MLflow run.
        seconds_per_image: wall time of the images that were done now; NaN if none was.
    """
    images, curves, gain = rows.drop(columns=list(CURVE_COLUMNS), errors="ignore"), curves_of(rows), gain_of(rows)
    numbers = {
        "seconds_per_image": seconds_per_image,
        "iou_before": float(images["iou_before"].mean()),
        "iou_after": mean_iou(images),
        "iou_gain": gain.mean,
        "iou_gain_low": gain.low,
        "iou_gain_high": gain.high,
        "steps_taken": float(images["steps"].mean()),
        "stopped_flat": float((images["stopped"] == "flat").sum() / max(1, images["stopped"].notna().sum())),
    }
    finish_evaluation(images, folder, tracked, numbers)
    curves.to_parquet(folder / CURVES_FILE, index=False)
    tracked.log_artifact(folder / CURVES_FILE)
    figures = [draw_gains(images, gain), draw_before_after(images), draw_overfitting(curves)]
    for path in write_drawings([figure for figure in figures if figure is not None], folder / "figures"):
        if path.suffix == ".png":
            tracked.log_artifact(path, "figures")
    done = f"{len(images)} images, {numbers['steps_taken']:.0f} steps each"
    if not gain.n:
        return f"{done}, no truth"
    return (
        f"{done}; mean IoU before {numbers['iou_before']:.3f}, after {numbers['iou_after']:.3f}, gain {gain.mean:+.3f} "
        f"[{gain.low:+.3f}, {gain.high:+.3f}], n = {gain.n}, transductive"
    )


def log_children(images: pd.DataFrame, tracked: TrackedRun) -> None:
    """Log an MLflow run for each image, below that of the fleet; one costs about 40 ms."""
    for image in images.itertuples(index=False):
        words = {"image": image.id, "status": image.status, "start": image.start, "stopped": image.stopped}
        with tracked.child(image.id, words) as child:
            child.log_metrics({name: float(getattr(image, name)) for name in _CHILD_NUMBERS})
