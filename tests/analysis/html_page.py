"""Reads a page back: its tags, its texts, what its policy allows."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "input", "col", "br", "link"}


class Page(HTMLParser):
    """Collects what the tests ask about, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.style = self.script = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            setattr(self, self.open[-1], getattr(self, self.open[-1]) + data)
        elif self.open and data.strip():
            self.texts.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def read_page(path: Path) -> Page:
    """Parse a page and check what holds for every one: it loads nothing, and runs the one script its policy names."""
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.all("link")
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert all(re.match(r"data:image/(png|jpeg|svg\+xml);base64,", image["src"] or "") for image in page.all("img"))
    assert all(image["alt"] for image in page.all("img"))
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("href", "src")]
    assert all(address and address.startswith("data:") for address in addresses)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert page.all("script") == [{}]
    [policy] = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert len(page.all("table")) == len(page.all("caption")), "every table says what it is"
    return page
