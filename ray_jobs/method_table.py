"""The table of several methods on the same images: every number with its interval, as Markdown and as CSV.

Means of IoU run over the occluder kinds with ten cut-outs or more where all methods share them [design 5.11]; the
difference is that of the same images to the first method. False-positive area and AUROC are those of the store of clean
faces where one was given, and of the clean pictures of the store itself otherwise.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.results import Evaluation, NumbersTable, numbers_table, read_evaluation
from ray_jobs.run_folder import write_text
from s3pot.metrics import FAILED, Interval, Summary, auroc, summarise

_SHARES = ("pooled_iou", "fb_iou", "boundary_f", "boundary_iou", "precision", "recall")


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodTable:
    """A table that was written.

    Attributes:
        markdown: the whole text.
        files: what was written.
        problems: methods that could not be measured, with the reason.
        failed: methods with failed images, with the first error.
    """

    markdown: str
    files: tuple[Path, ...]
    problems: Mapping[str, str]
    failed: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    name: str
    evaluation: Evaluation
    summary: Summary
    clean: Summary | None
    auroc: float
    facts: Mapping[str, object]


def write_method_table(
    folder: Path, methods: Sequence[str], problems: Mapping[str, str], *, clean: bool, seed: int = 0
) -> MethodTable:
    """Write `table.md` and `table.csv` from the methods' folders.

    Args:
        folder: holds one folder per method, and in it perhaps one of clean faces, `clean`.
        methods: their names, in order.
        problems: methods that could not be measured, with the reason; `<name>/clean` where only clean faces could not.
        clean: whether clean faces are those of the folders `clean`.
        seed: of the bootstrap.
    """
    rows = [
        _read(folder, name, clean and f"{name}/clean" not in problems, seed) for name in methods if name not in problems
    ]
    known = [row for row in rows if row is not None]
    sections = [_heading(folder, known, problems)]
    if known:
        numbers = numbers_table([row.evaluation for row in known])
        assert numbers is not None  # rows without truth are no rows
        sections += [_main(known, numbers), _by_group(known, "kind"), _by_group(known, "slice"), _notes(known, numbers)]
    text = "\n\n".join(section for section in sections if section) + "\n"
    write_text(folder / "table.md", text)
    write_text(folder / "table.csv", _long(known).to_csv(index=False))
    return MethodTable(
        markdown=text,
        files=(folder / "table.md", folder / "table.csv"),
        problems=problems,
        failed={row.name: error for row in known if (error := _first_error(row.evaluation)) is not None},
    )


def table_text(table: MethodTable) -> str:
    """Return what is printed: the table as it is written."""
    return table.markdown


def _read(folder: Path, name: str, with_clean: bool, seed: int) -> _Row | None:
    evaluation = read_evaluation(name, folder / name)
    if not evaluation.has_truth:
        return None
    summary = _summary(evaluation, seed)
    clean_place = folder / name / "clean"
    clean, separation = None, summary.value("auroc", scope="clean").mean
    if with_clean and (clean_place / "per_image.parquet").is_file():
        found = read_evaluation(name, clean_place)
        clean = _summary(found, seed)
        occluded = evaluation.images.loc[evaluation.images["truth_pixels"] > 0, "occlusion_score"].dropna()
        scores = found.images.loc[found.images["truth_pixels"] == 0, "occlusion_score"].dropna()
        separation = auroc(occluded.to_numpy(float), scores.to_numpy(float))
    facts = json.loads((folder / name / "summary.json").read_text())
    return _Row(name=name, evaluation=evaluation, summary=summary, clean=clean, auroc=separation, facts=facts)


def _summary(evaluation: Evaluation, seed: int) -> Summary:
    return summarise(evaluation.images.reset_index(drop=True), seed=seed)


def _heading(folder: Path, rows: Sequence[_Row], problems: Mapping[str, str]) -> str:
    lines = [f"# {folder.name}", ""]
    if rows:
        first = rows[0]
        occluded, clean = first.summary.counts["occluded"], (first.clean or first.summary).counts["clean"]
        lines.append(f"{occluded} occluded and {clean} clean pictures; 95 % intervals in brackets.")
    lines += [f"- not measured: {name}: {reason}" for name, reason in problems.items()]
    return "\n".join(lines)


def _main(rows: Sequence[_Row], numbers: NumbersTable) -> str:
    scope = "headline" if numbers.kinds else "overall"
    mean = f"IoU, mean over {', '.join(numbers.kinds)}" if numbers.kinds else "IoU"
    columns = ["method", mean, f"difference to {rows[0].name}", "IoU, all", "pooled", "FB-IoU", "boundary F"]
    columns += ["boundary IoU", "precision", "recall", "clean: marked % of the face", "clean: marked on > 1 %"]
    columns += ["AUROC", "s / image"]
    lines = []
    for row, number in zip(rows, numbers.rows, strict=True):
        clean = row.clean or row.summary
        seconds = row.facts.get("seconds_per_image", row.facts.get("seconds_per_image_with_chain", math.nan))
        cells = [row.name, _bracketed(number.headline), "" if number.difference is None else _signed(number.difference)]
        cells.append(_bracketed(row.summary.value("iou_face_mask", scope="overall")))
        cells += [_plain(row.summary.value(metric, scope=scope).mean) for metric in _SHARES]
        cells.append(_bracketed(clean.value("false_positive_area", scope="clean"), digits=2))
        cells.append(_bracketed(clean.value("share_above_limit", scope="clean"), digits=2))
        cells += [_plain(row.auroc), _plain(float(str(seconds)))]
        lines.append(cells)
    return _markdown(columns, lines)


def _by_group(rows: Sequence[_Row], scope: str) -> str:
    """Return IoU by kind or by slice."""
    first = rows[0].summary.metrics
    chosen = first[(first["scope"] == scope) & (first["metric"] == "iou_face_mask")]
    if chosen.empty:
        return ""
    groups = {str(kind): int(number) for kind, number in zip(chosen["kind"], chosen["n"], strict=True)}
    lines = []
    for row in rows:
        table = row.summary.metrics
        table = table[(table["scope"] == scope) & (table["metric"] == "iou_face_mask")].set_index("kind")["mean"]
        lines.append([row.name, *(_plain(float(table.get(group, np.nan))) for group in groups)])
    return _markdown([f"IoU by {scope}", *(f"{group} ({number})" for group, number in groups.items())], lines)


def _notes(rows: Sequence[_Row], numbers: NumbersTable) -> str:
    notes = [f"- {caveat}" for caveat in numbers.caveats]
    if numbers.left_out_kinds:
        notes.append(f"- Kinds with fewer than ten cut-outs, not in the mean: {', '.join(numbers.left_out_kinds)}.")
    for row in rows:
        counts = row.summary.counts
        odd = [f"{counts[key]} {key[7:]}" for key in ("status_missing", "status_excluded") if counts.get(key)]
        if odd:
            notes.append(f"- {row.name}: {' and '.join(odd)} (missing={row.facts.get('missing_policy')}).")
        if "full_face" in row.facts:
            notes.append(f"- {row.name}: occlusion = full face ({row.facts['full_face']}) minus visible face.")
    return "\n".join(notes)


def _long(rows: Sequence[_Row]) -> pd.DataFrame:
    """Return every number: method, set, scope, kind, metric, mean, low, high, level, n, undefined."""
    parts = []
    for row in rows:
        parts.append(row.summary.metrics.assign(method=row.name, set="store"))
        if row.clean is not None:
            parts.append(row.clean.metrics.assign(method=row.name, set="clean"))
    table = pd.concat(parts) if parts else pd.DataFrame(columns=["method", "set"])
    return table[["method", "set", *(name for name in table.columns if name not in ("method", "set"))]]


def _first_error(evaluation: Evaluation) -> str | None:
    failed = evaluation.images[evaluation.images["status"] == FAILED]
    return str(failed["error"].iloc[0]) if len(failed) else None


def _bracketed(interval: Interval, digits: int = 3) -> str:
    if not interval.n or math.isnan(interval.mean):
        return "-"
    text = f"{interval.mean:.{digits}f}"
    return text if math.isnan(interval.low) else f"{text} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _signed(interval: Interval) -> str:
    if not interval.n or math.isnan(interval.low):
        return "-"
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*head, *("| " + " | ".join(cells) + " |" for cells in lines)])
