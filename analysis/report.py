"""One self-contained HTML page about a store and evaluations of it: the table of numbers and the stages in pictures.

The page loads nothing: pictures are embedded, there is no script, and its content policy forbids both. Faces are
biometric data, so pictures go in only when asked for [design 8]; without them the page has the numbers and image ids.
"""

import math
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from analysis import stage_pictures
from analysis.case_choice import choose_sections
from analysis.case_panels import Panel, draw_panels, read_cases, similarity_limits
from analysis.results import COLUMN_GROUPS, HEADLINE, RANKING_METRIC, Evaluation, numbers_table, read_evaluation
from s3pot import __version__
from s3pot.metrics import FAILED
from s3pot.store import PromptStore

_FAILURES_LISTED = 200


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


def write_report(
    store: Path,
    evaluations: Mapping[str, Path],
    out: Path,
    *,
    title: str,
    note: str = "",
    pictures: int = 24,
    images: bool = False,
) -> Path:
    """Write the report.

    Args:
        store: folder of the store the evaluations are about.
        evaluations: folder of each evaluation by its name, in the order of the table; the last one orders the images.
        out: HTML file; replaced when it exists.
        title: heading.
        note: what a reader must know first, such as "illustration, not a result"; shown prominently.
        pictures: at most this many images are shown.
        images: embed pictures of faces.

    Returns:
        `out`.

    Raises:
        StoreError: if there is no store.
        FileNotFoundError: if an evaluation holds no per-image table.
        ResultsError: if its table cannot be read.
    """
    opened = PromptStore(store)
    read = [read_evaluation(name, folder) for name, folder in evaluations.items()]
    manifest = opened.rows(["status", "error", "kind"]).set_index("id", drop=False)
    sections = choose_sections(manifest, read, pictures)
    cases = _cases(manifest, read, [image_id for section in sections for image_id in section.ids])
    limits = (0.0, 1.0)
    if images:
        cases, limits = _with_panels(opened, read, cases)
    page = _template().render(
        title=title,
        note=note,
        images=images,
        facts=_facts(opened),
        config=list(_flatten(opened.description.get("chain", {}))),
        evaluations=read,
        statuses=_status_counts(manifest, read),
        numbers=numbers_table(read),
        headline=HEADLINE,
        groups=COLUMN_GROUPS,
        sections=sections,
        cases=cases,
        failures=_failures(manifest, read),
        failures_listed=_FAILURES_LISTED,
        limits=limits,
        scale=_scale_colors(),
        pictures=stage_pictures,
    )
    return _write(page, out)


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


def _with_panels(
    store: PromptStore, evaluations: Sequence[Evaluation], cases: Mapping[str, Case]
) -> tuple[dict[str, Case], tuple[float, float]]:
    stored = read_cases(store, cases)
    limits = similarity_limits(list(stored.values()))
    drawn = {}
    for image_id, case in cases.items():
        panels: list[Panel] = []
        complaints = ["This image is not in the store: there is nothing to draw."]
        if image_id in stored:
            panels = draw_panels(stored[image_id], evaluations, case.scores, limits)
            complaints = stored[image_id].complaints
        drawn[image_id] = replace(case, panels=tuple(panels), complaints=tuple(complaints))
    return drawn, limits


def _status_counts(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> dict[str, list[int]]:
    tables = [manifest, *(evaluation.images for evaluation in evaluations)]
    counts = [table["status"].value_counts() for table in tables]
    statuses = sorted(set().union(*(count.index for count in counts)), key=lambda status: (status != "ok", status))
    rows = {str(status): [int(count.get(status, 0)) for count in counts] for status in statuses}
    return rows | {"all": [len(table) for table in tables]}


def _failures(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[tuple[str, str, str]]:
    """Return (where, id, error) of everything that failed; what failed in the store is not said again."""
    in_store = manifest[manifest["status"] == FAILED]
    found = [("encoding", str(row.id), _sentence(row.error)) for row in in_store.itertuples(index=False)]
    for evaluation in evaluations:
        table = evaluation.images[evaluation.images["status"] == FAILED]
        table = table[~table.index.isin(in_store.index)]
        found += [(evaluation.name, str(row.id), _sentence(row.error)) for row in table.itertuples(index=False)]
    return found


def _sentence(error: Any) -> str:
    return error if isinstance(error, str) and error else "no error was recorded"


def _facts(store: PromptStore) -> dict[str, str]:
    chain = dict(_flatten(store.description.get("chain", {})))
    return {
        "Made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "Software": f"s3pot {__version__}, Python {platform.python_version()}",
        "Store": f"{store.root.name}, identity {store.description.get('identity', 'unknown')}",
        "SAM": chain.get("sam", "unknown"),
        "Selector": chain.get("prefix.selector.kind", "unknown"),
    }


def _flatten(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        rows += _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", str(value))]
    return rows


def _scale_colors() -> list[str]:
    shares = np.linspace(0, 1, 9)[None]
    return [_css_color(color) for color in stage_pictures.similarity_colors(shares, (0.0, 1.0))[0].tolist()]


def _css_color(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _format(value: float, unit: str = "share", *, signed: bool = False) -> str:
    if math.isnan(value):
        return "–"
    sign = "+" if signed else ""
    text = f"{value:{sign}.1f} %" if unit == "percent" else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"css_color": _css_color, "number": _format}
    return environment.get_template("report.html.j2")


def _write(page: str, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    try:
        # A command line can hold bytes that are no text; they must not cost the report.
        part.write_bytes(page.encode("utf-8", "xmlcharrefreplace"))
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out
