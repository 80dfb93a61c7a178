"""Sweep and fleet folders as `s3pot sweep` and `s3pot overfit` write them, made of numbers alone."""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from s3pot.images import write_png
from s3pot.metrics import METRIC_COLUMNS, cluster_bootstrap_mean, paired_difference
from s3pot.seeding import generator

FE, SELECTOR, SA = "chain.prefix.feature_enhancement", "chain.prefix.selector.kind", "reweighter"
TERMS = ("objective.recall_face", "objective.recall_occlusion", "objective.face_penalty")
IouOf = Callable[[dict[str, Any]], float]


def table2_iou(cell: dict[str, Any]) -> float:
    """The paper's order, but FE does nothing with a reweighter and Otsu lies above greedy without FE."""
    value = {"greedy": 0.6, "otsu": 0.4, "threshold": 0.2}[cell[SELECTOR]]
    if cell[SA] == "on":
        return value + 0.1
    return value + (0.05 if cell[FE] else (0.25 if cell[SELECTOR] == "otsu" else 0.0))


def write_table2(folder: Path, **options: Any) -> Path:
    """Write a sweep over the axes of Table 2."""
    grid = {FE: [True, False], SELECTOR: ["greedy", "otsu", "threshold"], SA: ["on", "off"]}
    return write_sweep(folder, grid, table2_iou, title="Table 2", **options)


def write_table3(folder: Path, **options: Any) -> Path:
    """Write a sweep over the seven subsets of the terms, the number of terms deciding."""
    subsets = [terms for terms in itertools.product([True, False], repeat=3) if any(terms)]
    cells = [dict(zip(TERMS, terms, strict=True)) for terms in subsets]
    return write_sweep(
        folder, {name: [] for name in TERMS}, lambda c: 0.2 * sum(c.values()), cells=cells, title="Table 3", **options
    )


def write_sweep(
    folder: Path,
    grid: dict[str, list[Any]],
    iou_of: IouOf,
    *,
    cells: Sequence[dict[str, Any]] | None = None,
    title: str = "Sweep",
    seeds: Sequence[int] = (0, 1, 2),
    images: int = 24,
    failed: Sequence[int] = (),
) -> Path:
    """Write a sweep whose first cell is the base.

    Args:
        folder: made.
        grid: values by axis.
        iou_of: mean IoU of a cell.
        cells: in place of the product of the grid.
        title: of the sweep.
        seeds: of the trials.
        images: number of images; every sixth has no occluder.
        failed: places of trials that failed.
    """
    cells = cells or [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    trials, parts = [], []
    for cell, seed in itertools.product(cells, seeds):
        trial = hashlib.sha256(json.dumps([cell, seed]).encode()).hexdigest()[:12]
        status = "failed" if len(trials) in failed else "ok"
        row = {"trial": trial, "cell": cell_id(cell), "name": None, **cell, "seed": seed, "status": status}
        trials.append(row | {"error": "diverged" if status == "failed" else None, "seconds": 12.5, "epochs": 3.0})
        write_history(folder / "trials" / trial, seed)
        if status == "ok":
            table = per_image(images, iou_of(cell), f"{cell_id(cell)}/{seed}")
            parts.append(table.assign(trial=trial, cell=cell_id(cell), seed=seed))
    table = pd.concat(parts, ignore_index=True)
    pd.DataFrame(trials).to_parquet(folder / "trials.parquet", index=False)
    table.to_parquet(folder / "images.parquet", index=False)
    _cells(cells, table, pd.DataFrame(trials)).to_parquet(folder / "cells.parquet", index=False)
    about = {"title": title, "axes": list(grid), "seeds": list(seeds), "stores": {}, "metric": "iou_face_mask"}
    about |= {"evaluated_on": "dev", "code": "abc123", "seconds": 90.0}
    (folder / "sweep.json").write_text(json.dumps(about))
    (folder / "config.yaml").write_text(f"title: {title}\n")
    return folder


def cell_id(cell: dict[str, Any]) -> str:
    """Ten hex digits of what is set."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:10]


def per_image(images: int, iou: float, item: str) -> pd.DataFrame:
    """Per-image rows around a mean IoU; the noise of an image is the same in every cell but for a little."""
    shared, own = (
        generator(0, "fake", "images").normal(0, 0.1, images),
        generator(0, "fake", item).normal(0, 0.01, images),
    )
    rows = []
    for number in range(images):
        clean = number % 6 == 5
        row: dict[str, Any] = {"id": f"{number:03d}", "path": None, "status": "ok", "error": None}
        row |= {"kind": "clean" if clean else ("hands", "masks")[number % 2], "face_id": f"face{number % 8}"}
        row |= {"cutout_id": None if clean else f"cut{number % 12}"} | dict.fromkeys(METRIC_COLUMNS, math.nan)
        row |= {"truth_pixels": 0.0 if clean else 100.0, "occlusion_score": 0.1}
        value = float(np.clip(iou + shared[number] + own[number], 0, 1))
        rows.append(row | {"iou_face_mask": math.nan if clean else value, "false_positive_area": 1.0})
    return pd.DataFrame(rows)


def write_history(folder: Path, seed: int) -> None:
    """Write three epochs."""
    folder.mkdir(parents=True)
    lines = [{"epoch": epoch, "total": 1.0 / (1 + epoch) + 0.01 * seed, "seconds": 2.0} for epoch in range(3)]
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def write_fleet(folder: Path, *, images: int = 24, curves: bool = True, masks: bool = False) -> Path:
    """Write a fleet: even images gain 0.1, odd ones lose 0.05; images stop after 4 to 8 steps."""
    before = per_image(images, 0.6, "fleet")
    number = np.arange(images)
    after = before["iou_face_mask"] + np.where(number % 2 == 0, 0.1, -0.05)
    steps = 4 + number % 5
    table = before.assign(iou_before=before["iou_face_mask"], iou_face_mask=after, steps=steps.astype(float))
    table = table.assign(objective_before=1.0, objective_after=1.0 / (1 + steps), seconds=0.5, start="scratch")
    table = table.assign(stopped=np.where(steps < 8, "flat", "budget"))
    folder.mkdir(parents=True)
    table.to_parquet(folder / "per_image.parquet", index=False)
    (folder / "config.yaml").write_text("store: /nowhere/store\nsteps: 8\n")
    if curves:
        rows = [(row.id, step, 1.0 / (1 + step)) for row in table.itertuples() for step in range(int(row.steps) + 1)]
        pd.DataFrame(rows, columns=["id", "step", "total"]).to_parquet(folder / "curves.parquet", index=False)
    for image_id in table["id"] if masks else ():
        write_png(folder / "masks" / f"{image_id}.png", np.zeros((8, 8), dtype=np.uint8))
    return folder


def _cells(cells: Sequence[dict[str, Any]], images: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    means = {}
    for cell in cells:
        rows = images[images["cell"] == cell_id(cell)].dropna(subset="iou_face_mask")
        means[cell_id(cell)] = rows.groupby("id").agg(
            {"iou_face_mask": "mean", "face_id": "first", "cutout_id": "first"}
        )
    base, found = means[cell_id(cells[0])], []
    for cell in cells:
        table = means[cell_id(cell)]
        clusters = (table["face_id"].tolist(), table["cutout_id"].tolist())
        value = cluster_bootstrap_mean(table["iou_face_mask"], *clusters, rng=np.random.default_rng(0))
        row = {"cell": cell_id(cell), "name": None, **cell, "seeds": 3, "seed_deviation": 0.01, "n": value.n}
        row |= {"mean": value.mean, "low": value.low, "high": value.high}
        row |= dict.fromkeys(("difference", "difference_low", "difference_high"), math.nan)
        if cell != cells[0]:
            pair = (table["iou_face_mask"], base["iou_face_mask"].loc[table.index])
            change = paired_difference(*pair, *clusters, rng=np.random.default_rng(0))
            row |= {"difference": change.mean, "difference_low": change.low, "difference_high": change.high}
        found.append(row)
    return pd.DataFrame(found)
