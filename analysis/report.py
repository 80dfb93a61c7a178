"""One self-contained HTML page about a store and evaluations of it: the table of numbers and the stages in pictures.

The page loads nothing: pictures are embedded, there is no script, and its content policy forbids both. Faces are
biometric data, so pictures go in only when asked for [design 8]; without them the page has the numbers and image ids.
"""

import math
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from analysis import stage_pictures
from analysis.case_panels import Panel, draw_panels, read_case, similarity_limits
from analysis.results import COLUMN_GROUPS, HEADLINE, RANKING_METRIC, Evaluation, numbers_table, read_evaluation
from s3pot import __version__
from s3pot.metrics import FAILED
from s3pot.store import PromptStore

# Worst and best cases take at most this many places each, the rest goes to an even sample.
_EXTREMES = 4
_FAILURES_LISTED = 200


@dataclass(frozen=True, kw_only=True)
class Section:
    """Images shown together."""

    title: str
    explanation: str
    ids: tuple[str, ...]


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
    sections = choose_sections(_eligible(manifest, read), read, pictures)
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


def choose_sections(ids: Sequence[str], evaluations: Sequence[Evaluation], pictures: int) -> list[Section]:
    """Choose which images are shown: worst and best of the last evaluation, then an even sample of the others.

    Args:
        ids: candidates.
        evaluations: the last one ranks; images without an IoU there are not ranked.
        pictures: at most this many in all.
    """
    ranked: list[str] = []
    if evaluations:
        ranking = evaluations[-1].images[RANKING_METRIC].reindex(ids).dropna()
        ranked = sorted(ranking.index, key=lambda image_id: (ranking[image_id], image_id))
    extremes = min(_EXTREMES, math.ceil(pictures / 4), len(ranked) // 2)
    worst, best = tuple(ranked[:extremes]), tuple(reversed(ranked[len(ranked) - extremes :]))
    others = sorted(set(ids) - set(worst) - set(best))
    sampled = _even_sample(others, max(0, pictures - 2 * extremes))
    sections = []
    if extremes:
        name = evaluations[-1].name
        sections = [
            Section(title="Worst cases", explanation=f"Lowest IoU of {name}, worst first.", ids=worst),
            Section(title="Best cases", explanation=f"Highest IoU of {name}, best first.", ids=best),
        ]
    if sampled:
        how = "in the order of their ids" if len(sampled) == len(others) else f"every {len(others) / len(sampled):.3g}th id"
        explanation = f"{len(sampled)} of {len(others)} {'other ' if extremes else ''}images, {how}."
        title = "All other images" if len(sampled) == len(others) else "A sample of the other images"
        sections.append(Section(title=title if extremes else "Images", explanation=explanation, ids=tuple(sampled)))
    return sections


def _even_sample(ids: list[str], number: int) -> list[str]:
    # Evenly over the sorted ids: not cherry-picked, and the first ids often share one kind.
    if number >= len(ids):
        return ids
    return [ids[place * len(ids) // number] for place in range(number)]


def _eligible(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the images that can be shown: evaluated ones, or all of the store; not those that failed in it."""
    ids = set().union(*(evaluation.images.index for evaluation in evaluations)) if evaluations else set(manifest.index)
    return sorted(ids - set(manifest.index[manifest["status"] == FAILED]))


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
    if row["truth_pixels"] > 0:
        return f"IoU {row[RANKING_METRIC]:.2f}"
    if row["truth_pixels"] == 0:
        area = row["false_positive_area"]
        return "no face found" if math.isnan(area) else f"{area:.1f} % false positive"
    return "no truth" if math.isnan(row["occlusion_score"]) else f"score {row['occlusion_score']:.2f}"


def _with_panels(
    store: PromptStore, evaluations: Sequence[Evaluation], cases: Mapping[str, Case]
) -> tuple[dict[str, Case], tuple[float, float]]:
    rows = store.rows()
    stored = {row.id: read_case(row) for row in rows[rows["id"].isin(set(cases))].itertuples(index=False)}
    limits = similarity_limits(list(stored.values()))
    drawn = {}
    for image_id, case in cases.items():
        panels: list[Panel] = []
        complaints = ["This image is not in the store: there is nothing to draw."]
        if image_id in stored:
            panels = draw_panels(stored[image_id], evaluations, case.scores, limits)
            complaints = stored[image_id].complaints
        drawn[image_id] = Case(
            id=case.id,
            kind=case.kind,
            status=case.status,
            scores=case.scores,
            panels=tuple(panels),
            complaints=tuple(complaints),
        )
    return drawn, limits


def _status_counts(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> dict[str, list[int]]:
    tables = [manifest, *(evaluation.images for evaluation in evaluations)]
    counts = [table["status"].value_counts() for table in tables]
    statuses = sorted(set().union(*(count.index for count in counts)), key=lambda status: (status != "ok", status))
    rows = {str(status): [int(count.get(status, 0)) for count in counts] for status in statuses}
    return rows | {"all": [len(table) for table in tables]}


def _failures(manifest: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[tuple[str, str, str]]:
    """Return (where, id, error) of everything that failed; what failed in the store is not said again per evaluation."""
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
        "Selector": chain.get("prefix.selector.name", chain.get("prefix.selector.kind", "see configuration")),
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
