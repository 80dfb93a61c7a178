import math
import re
from pathlib import Path

import pytest

from analysis.report import write_report
from s3pot.store import StoreError
from tests.analysis.fake_results import FakeResults
from tests.analysis.html_page import Page, read_page

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}</script>"


def report(results: FakeResults, *, images: bool = True, pictures: int = 24, title: str = "T", note: str = "") -> Page:
    out = results.root / "out" / "report.html"
    written = write_report(
        results.store, results.evaluations, out, title=title, note=note, pictures=pictures, images=images
    )
    assert written == out
    assert [path.name for path in out.parent.iterdir()] == ["report.html"], "no half-written file stays"
    return read_page(out)


def fill(results: FakeResults) -> FakeResults:
    """Add four images with truth, one clean, one failed, and two evaluations."""
    for seed, image_id in enumerate(("a", "b", "c", "d", "free")):
        results.add_image(image_id, seed=seed)
    results.add_failure("broken", "broken.jpg: cannot be decoded: image file is truncated")
    results.evaluate("greedy", {"a": 0.3, "b": 0.2, "c": 0.6, "d": 0.5, "free": math.nan})
    results.evaluate("overfit", {"a": 0.9, "b": 0.1, "c": 0.4, "d": 0.5, "free": math.nan})
    return results


@pytest.fixture
def composites(results: FakeResults) -> FakeResults:
    return fill(results)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The whole page about the composites."""
    results = fill(FakeResults(tmp_path_factory.mktemp("composites")))
    return report(results, title="Dev faces", note="illustration, not a result")


def test_header_says_what_made_it(page: Page) -> None:
    assert page.texts[0] == "Dev faces"
    for expected in ("illustration, not a result", "identity feedc0de", "nano", "UTC", "cores", "s3pot 0."):
        assert expected in page.text
    assert "prefix.selector.kind" in page.text


def test_a_row_of_numbers_per_evaluation(page: Page) -> None:
    for expected in (
        "greedy 0.400 [",
        "overfit 0.475 [",
        "+0.075",
        "difference to greedy",
        "false-positive area",
        "1.5 % n 1",
    ):
        assert expected in page.text


def test_status_counts(page: Page) -> None:
    assert "ok 5 5 5 failed 1 0 0 all 6 5 5" in page.text


def test_chosen_images_first_then_a_list_of_all(page: Page) -> None:
    titles = ("Worst cases", "Best cases", "Random images", "All images (5)")
    places = [page.texts.index(title) for title in titles]
    assert places == sorted(places)
    shown, listed = (
        [text for text in page.texts[start:end] if text in ("a", "b", "c", "d", "free")]
        for start, end in ((places[0], places[-1]), (places[-1], None))
    )
    assert shown == ["b", "c", "a", "d", "free"]
    assert listed == ["a", "b", "c", "d", "free"]
    assert "a objects ok 0.900 0.300 +0.600" in page.text
    assert "free clean ok – – –" in page.text
    assert "overfit IoU 0.10" in page.text
    assert "1.5 % false positive" in page.text


def test_one_row_of_panels_per_image_with_alternative_texts(page: Page) -> None:
    assert len(page.all("article")) == 5
    assert len(page.all("img")) == 5 * 8
    assert all(image["alt"] for image in page.all("img"))


def test_failures_are_listed_with_their_sentences(page: Page) -> None:
    place = page.texts.index("Failed images")
    assert "broken.jpg: cannot be decoded: image file is truncated" in page.texts[place:]
    assert page.text.count("broken.jpg") == 1


def test_without_images_there_are_numbers_and_no_faces(composites: FakeResults) -> None:
    page = report(composites, images=False)
    assert not page.all("img")
    assert not page.all("article")
    assert "base64" not in (composites.root / "out" / "report.html").read_text()
    assert "greedy 0.400 [" in page.text
    assert "Worst cases" in page.texts
    assert "b objects ok IoU 0.20 IoU 0.10" in page.text


def test_without_truth_there_are_pictures_only(results: FakeResults) -> None:
    results.add_image("a", truth=False)
    results.evaluate("greedy", {"a": None})
    page = report(results)
    assert "No image of this report has a known truth, so there are no numbers: pictures only." in page.text
    assert "Worst cases" not in page.texts
    assert "greedy score 0.25" in page.text
    assert len(page.all("img")) == 6


def test_a_store_without_evaluations(results: FakeResults) -> None:
    results.add_image("a")
    page = report(results)
    assert len(page.all("img")) == 6
    assert "no numbers" in page.text


def test_an_empty_store(results: FakeResults) -> None:
    assert "There are no images to show." in report(results).text


def test_no_more_pictures_than_asked_for(composites: FakeResults) -> None:
    assert len(report(composites, pictures=2).all("article")) == 2
    assert len(report(composites, pictures=0).all("article")) == 0


def test_everything_is_escaped(results: FakeResults) -> None:
    results.add_image("ordinary")
    results.add_image(HOSTILE, kind=HOSTILE)
    results.add_failure(f"failed {HOSTILE}", HOSTILE)
    results.evaluate("ordinary", {"ordinary": 0.5, HOSTILE: 0.1}, kind=HOSTILE, masks=False)
    folder = results.evaluations.pop("ordinary")
    (folder / "config.yaml").write_text(HOSTILE)
    results.evaluations[HOSTILE] = folder
    for images in (True, False):
        page = report(results, title=HOSTILE, note=HOSTILE, images=images)
        assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
        assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
        assert page.text.count(HOSTILE) >= 8
        assert "49" not in re.findall(r"\b49\b", page.text)


def test_bytes_that_are_no_text_do_not_cost_the_report(results: FakeResults) -> None:
    results.add_image("a")
    assert "caf" in report(results, title="caf\udce9").text


def test_a_missing_picture_is_said(composites: FakeResults) -> None:
    for path in (composites.root / "pictures").rglob("image.png"):
        path.unlink()
    page = report(composites)
    assert page.text.count("The picture cannot be shown") == 5
    assert "not available" in page.text


def test_an_evaluated_image_that_is_not_in_the_store(composites: FakeResults) -> None:
    composites.evaluate("later", {"a": 0.5, "elsewhere": 0.1})
    page = report(composites)
    assert "This image is not in the store" in page.text
    assert "later IoU 0.10" in page.text
    assert "greedy not evaluated" in page.text


def test_a_failed_evaluation_of_one_image(composites: FakeResults) -> None:
    composites.evaluate("masks", {"a": math.nan, "b": 0.5}, status="failed", error="mask is missing")
    page = report(composites)
    assert "masks failed" in page.text
    assert page.texts.count("mask is missing") == 2


def test_without_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        write_report(tmp_path / "none", {}, tmp_path / "report.html", title="T", note="")
    assert not (tmp_path / "report.html").exists()
