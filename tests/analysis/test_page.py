"""Pages in a real browser: what the script does, that nothing complains, that a phone can show them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.page import number
from analysis.report import write_report
from analysis.sweep_report import write_sweep_report
from tests.analysis.browser import Browser, find_browser, open_browser
from tests.analysis.fake_results import FakeResults
from tests.analysis.fake_sweep import write_table2

KINDS = {"a": "hands", "b": "hands", "c": "masks", "d": "masks", "e": "hands", "free": "clean"}
FIRST = dict(zip(KINDS, (0.3, 0.2, 0.6, 0.5, 0.4, float("nan")), strict=True))
LAST = dict(zip(KINDS, (0.9, 0.1, 0.4, 0.5, 0.2, float("nan")), strict=True))
ROWS = "[...document.querySelectorAll('[data-counted] tr')]"
CARDS = "[...document.querySelectorAll('.gallery article')]"
SHOWN = ".filter((item) => item.getClientRects().length).map((item) => item.dataset.id)"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations of the same images, with pictures."""
    results = FakeResults(tmp_path_factory.mktemp("page"))
    for seed, (image_id, kind) in enumerate(KINDS.items()):
        results.add_image(image_id, seed=seed, kind=kind)
    for name, ious in (("greedy", FIRST), ("overfit", LAST)):
        folder = results.evaluate(name, ious)
        _set_kinds(folder / "per_image.parquet")
    out = results.root / "report.html"
    return write_report(results.store, results.evaluations, out, title="Dev faces", images=True)


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with a table of the paper, figures and a failed trial."""
    folder = tmp_path_factory.mktemp("sweep")
    return write_sweep_report(write_table2(folder / "table2", failed=[3]), folder / "report.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium, whichever is installed."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium or Chrome is installed: `apt-get install chromium` for the tests of the page's script")
    with open_browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_complaints(browser: Browser) -> Iterator[None]:
    """No test may leave an error in the console, or ask for anything from outside."""
    browser.complaints.clear()
    yield
    assert browser.complaints == []


def _set_kinds(path: Path) -> None:
    import pandas as pd

    table = pd.read_parquet(path)
    table["kind"] = table["id"].map(KINDS)
    table.to_parquet(path)


def shown(browser: Browser, what: str) -> list[str]:
    found: list[str] = browser.evaluate(what + SHOWN)
    return found


def test_as_written_everything_is_there(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert shown(browser, ROWS) == sorted(KINDS)
    assert sorted(shown(browser, CARDS)) == sorted(KINDS)
    assert browser.evaluate("document.getElementById('browse-count').textContent") == "6 of 6 images"
    assert browser.evaluate("[...document.querySelectorAll('h3')].every((head) => head.getClientRects().length)")
    assert browser.evaluate("document.images.length") == 6 * 8
    assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("#sort=iou", ["b", "e", "c", "d", "a", "free"]),
        ("#sort=iou&order=desc", ["a", "d", "c", "e", "b", "free"]),
        ("#sort=gain&kind=hands", ["e", "b", "a"]),
        ("#sort=iou1&order=desc&from=0.2&to=0.5", ["c", "d", "e"]),
        ("#find=FR", ["free"]),
        ("#kind=clean", ["free"]),
        ("#from=0.95", []),
        ("#sort=nonsense&kind=nonsense", sorted(KINDS)),
        ("#numbers", sorted(KINDS)),
    ],
)
def test_the_address_says_what_is_shown(browser: Browser, page: Path, fragment: str, expected: list[str]) -> None:
    browser.open(page, fragment)
    assert shown(browser, ROWS) == expected
    cards = shown(browser, CARDS)
    assert (cards if "sort=" in fragment and "nonsense" not in fragment else sorted(cards)) == expected
    heads = browser.evaluate(
        "[...document.querySelectorAll('.gallery h3')].filter((h) => h.getClientRects().length).length"
    )
    assert (heads == 0) == (not expected or ("sort=" in fragment and "nonsense" not in fragment))
    assert browser.evaluate("document.getElementById('table-empty').hidden") == bool(expected)


def test_controls_filter_and_their_state_is_in_the_address(browser: Browser, page: Path) -> None:
    browser.open(page)
    change = "(name, value) => { const c = document.getElementById('browse').elements.namedItem(name); c.value = value;"
    change += " c.dispatchEvent(new Event('input', { bubbles: true })); }"
    browser.evaluate(f"({change})('kind', 'masks')")
    browser.evaluate(f"({change})('sort', 'gain')")
    assert shown(browser, ROWS) == ["c", "d"]
    assert browser.evaluate("location.hash") == "#kind=masks&sort=gain"
    assert browser.evaluate("document.getElementById('browse-count').textContent") == "2 of 6 images"
    browser.evaluate("document.querySelector('#browse button').click()")
    assert shown(browser, ROWS) == sorted(KINDS)
    assert browser.evaluate("location.hash") == ""


def test_a_heading_sorts_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    head = "document.querySelector('th[data-key=gain]')"
    browser.evaluate(f"{head}.querySelector('button').focus()")
    browser.press("Enter")
    assert shown(browser, ROWS) == ["c", "e", "b", "d", "a", "free"]
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "ascending"
    browser.press("Enter")
    assert shown(browser, ROWS) == ["a", "d", "b", "c", "e", "free"]
    assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    browser.evaluate("document.querySelector('th[data-key=iou] button').click()")
    assert browser.evaluate("[...document.querySelectorAll('[aria-sort]')].map((h) => h.dataset.key)") == ["iou"]
    browser.evaluate("document.querySelector('#browse [name=find]').focus()")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.name") == "kind"


def test_without_script_nothing_is_hidden_but_the_controls(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, "#kind=masks")
        # The page's own script is off; what we evaluate still runs.
        assert shown(browser, ROWS) == sorted(KINDS)
        assert browser.evaluate("document.getElementById('browse').getClientRects().length") == 0
        assert browser.evaluate("document.querySelectorAll('th button').length") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("kind", ["page", "sweep_page"])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, kind: str, request: pytest.FixtureRequest) -> None:
    browser.open(request.getfixturevalue(kind), **PHONE)
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    small = (
        "[...document.querySelectorAll('p, td, th, label, figcaption, code')].filter((e) => e.getClientRects().length)"
    )
    assert browser.evaluate(f"Math.min(...{small}.map((e) => parseFloat(getComputedStyle(e).fontSize)))") >= 11
    controls = "[...document.querySelectorAll('#browse input, #browse select, #browse button')]"
    assert browser.evaluate(f"Math.min(...{controls}.map((e) => e.getBoundingClientRect().height))") >= 32


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, page: Path, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(page)
    read = "getComputedStyle(document.documentElement).getPropertyValue('--{}').trim()"
    colors = {name: browser.evaluate(read.format(name)) for name in ("ink", "quiet", "accent", "ok", "paper", "raised")}
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb({}, {}, {})".format(*_channels(colors["paper"]))
    for name in ("ink", "quiet", "accent", "ok"):
        for below in ("paper", "raised"):
            assert _contrast(colors[name], colors[below]) >= 4.5, f"{name} on {below}, {scheme}"
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_the_page_of_a_sweep_sorts_too(browser: Browser, sweep_page: Path) -> None:
    browser.open(sweep_page, "#sort=gain&order=desc&kind=masks")
    ids = shown(browser, ROWS)
    assert len(ids) == 8
    values = browser.evaluate(f"{ROWS}.filter((r) => !r.hidden).map((r) => JSON.parse(r.dataset.values).gain)")
    assert values == sorted(values, reverse=True)
    assert browser.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_a_browser_that_complains_is_heard(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; script-src 'unsafe-inline'\">"
        "<img src=http://localhost:1/x.png><script>console.error('oh'); undefined.thing</script>"
    )
    browser.open(bad)
    heard = " ".join(browser.complaints)
    assert "oh" in heard
    assert "TypeError" in heard
    assert "Content Security Policy" in heard
    browser.complaints.clear()


def test_numbers_as_pages_write_them() -> None:
    assert [number(-0.0123), number(12.34, "percent"), number(0.1234, "points", signed=True)] == [
        "−0.012",
        "12.3 %",
        "+12.3",
    ]
    assert [number(30.0, "count"), number(float("nan")), number(0.5, signed=True)] == ["30", "–", "+0.500"]


def _channels(color: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"#(..)(..)(..)", color)
    assert found is not None
    red, green, blue = (int(part, 16) for part in found.groups())
    return red, green, blue


def _contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2."""

    def luminance(color: str) -> float:
        shares = [value / 255 for value in _channels(color)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
