"""The frame of every page: templates, number formats, content policy, embedded figures.

A page is one file that loads nothing. Its policy allows embedded pictures and the one script that sorts and filters,
named by its hash: no other script can run, whatever an image id or an error message holds. Without script everything
is there and visible.
"""

import base64
import hashlib
import itertools
import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from analysis import stage_pictures
from analysis.figures import Drawing
from analysis.table_formats import paper_text
from analysis.tables import TableRow
from analysis.whole_files import write_whole
from s3pot import __version__

_TEMPLATES = Path(__file__).parent / "templates"


def write_page(template: str, out: Path, *, drawings: Sequence[Drawing] = (), **values: Any) -> Path:
    """Render a page.

    Args:
        template: file in `templates/`.
        out: HTML file; replaced when it exists.
        drawings: figures, embedded.
        values: what else the template asks for.

    Returns:
        `out`.
    """
    script = (_TEMPLATES / "browse.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    page = (
        _environment()
        .get_template(template)
        .render(
            script=script,
            script_hash=f"sha256-{digest}",
            figures=[(drawing, _embedded(drawing)) for drawing in drawings],
            **values,
        )
    )
    return write_whole(out, page)


def made_where() -> dict[str, str]:
    """Return when, where and by which version a page is made."""
    return {
        "Made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "Software": f"s3pot {__version__}, Python {platform.python_version()}",
    }


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return dotted keys and values of a nested mapping."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        rows += flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", str(value))]
    return rows


def scale_colors() -> list[str]:
    """Return colours along the similarity scale."""
    shares = np.linspace(0, 1, 9)[None]
    return [_css_color(color) for color in stage_pictures.similarity_colors(shares, (0.0, 1.0))[0].tolist()]


def number(value: float, unit: str = "share", *, signed: bool = False) -> str:
    """Write a number as the pages do, a dash for what is not defined.

    Args:
        value: the number.
        unit: "share", "percent" (of a value that is one already), "points" (a share as percent) or "count".
        signed: write a plus too.
    """
    if math.isnan(value):
        return "–"
    sign = "+" if signed else ""
    written = {"percent": f"{value:{sign}.1f} %", "points": f"{100 * value:{sign}.1f}", "count": f"{value:{sign}g}"}
    text = written.get(unit, f"{value:{sign}.3f}")
    return text.replace("-", "−")


def _embedded(drawing: Drawing) -> str:
    # Pictures of faces inside an SVG would be stored as PNG anyway.
    kind, data = ("png", drawing.png) if drawing.faces else ("svg+xml", drawing.svg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _by_group(rows: Sequence[TableRow]) -> list[tuple[str, list[TableRow]]]:
    return [(group, list(of_group)) for group, of_group in itertools.groupby(rows, key=lambda row: row.group)]


def _css_color(color: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"css_color": _css_color, "number": number, "paper": paper_text, "by_group": _by_group}
    return environment
