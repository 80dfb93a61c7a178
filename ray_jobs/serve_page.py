"""The page of `s3pot serve`: one file with its style and script inside, under a policy that allows these two alone."""

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "serve_page"


class Page(NamedTuple):
    """The page and its Content-Security-Policy.

    Attributes:
        html: the whole page; it loads nothing.
        policy: value of the header.
    """

    html: str
    policy: str


def read_page() -> Page:
    """Put the page together."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = (_FOLDER / "page.html").read_text(encoding="utf-8")
    html = html.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html, policy)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
