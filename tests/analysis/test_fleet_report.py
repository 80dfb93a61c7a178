import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fleet_report import draw_fleet, read_fleet, write_fleet_report
from s3pot.evaluation import mask_path
from s3pot.images import write_png
from s3pot.store import StoreError
from tests.analysis.fake_results import SIZE, FakeResults
from tests.analysis.fake_sweep import write_fleet
from tests.analysis.html_page import Page, read_page


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a fleet of 24 images."""
    folder = tmp_path_factory.mktemp("fleet")
    return write_fleet_report(write_fleet(folder / "fleet"), {}, folder / "report.html", title="Fleet")


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return read_page(out)


def test_before_and_after_are_two_rows(out: Path, page: Page) -> None:
    # Even images gain 0.1, odd ones lose 0.05; every sixth has no occluder, so 12 of 20 gain.
    mean = (12 * 0.1 - 8 * 0.05) / 20
    before = pd.read_parquet(out.parent / "fleet" / "per_image.parquet")["iou_before"].mean()
    assert f"before {before:.3f} [" in page.text
    assert f"overfitted {before + mean:.3f} [" in page.text
    assert f"+{mean:.3f}" in page.text
    assert "12 images gain, 8 lose" in page.text
    assert "difference to before" in page.texts
    assert "not found, so there are no pictures" in page.texts


def test_what_the_run_was_is_said(out: Path, page: Page) -> None:
    for expected in ("scratch 24", "flat 20, budget 4", "median 6, at most 8", "0.50"):
        assert expected in page.texts
    for head in ("steps", "objective before", "objective after", "seconds", "overfitted − before"):
        assert head in page.texts
    names = sorted(path.name for path in (out.parent / "figures").glob("*.svg"))
    assert names == ["before-after.svg", "gains.svg", "overfitting.svg"]


def test_images_are_ordered_by_what_they_gain(page: Page) -> None:
    places = [page.texts.index(title) for title in ("Largest gains", "Largest losses", "Random images")]
    gains, losses = ([t for t in page.texts[a:b] if t.isdigit()] for a, b in itertools.pairwise(places))
    assert gains
    assert all(int(image_id) % 2 == 0 for image_id in gains)
    assert losses
    assert all(int(image_id) % 2 == 1 for image_id in losses)


def test_before_has_no_masks_and_is_not_asked_for_them(results: FakeResults) -> None:
    for name in ("000", "001"):
        results.add_image(name)
    fleet = write_fleet(results.root / "fleet", images=2)
    for name in ("000", "001"):
        write_png(mask_path(fleet, name), np.full((SIZE, SIZE), 255, dtype=np.uint8))
    results.evaluate("head", {"000": 0.5, "001": 0.4})
    out = results.root / "report.html"
    page = read_page(
        write_fleet_report(fleet, results.evaluations, out, title="Fleet", images=True, store=results.store)
    )
    texts = [image["alt"] or "" for image in page.all("img")]
    assert sum("predicted by overfitted" in text for text in texts) == 2
    assert sum("predicted by head" in text for text in texts) == 2
    assert not any("by before" in text for text in texts)
    assert "cannot be shown" not in page.text


def test_the_store_of_the_run_is_found(results: FakeResults) -> None:
    results.add_image("000")
    fleet = write_fleet(results.root / "fleet", images=1)
    (fleet / "config.yaml").write_text(f"store: {results.store}\n")
    assert read_fleet(fleet).store == results.store
    page = read_page(write_fleet_report(fleet, {}, results.root / "report.html", title="Fleet"))
    assert "store, identity feedc0de" in page.text


def test_a_named_store_must_be_there(tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path / "fleet")
    with pytest.raises(StoreError, match="no store here"):
        write_fleet_report(fleet, {}, tmp_path / "report.html", title="Fleet", store=tmp_path / "none")


def test_older_fleets_without_curves(tmp_path: Path) -> None:
    fleet = read_fleet(write_fleet(tmp_path / "fleet", curves=False))
    assert [drawing.name for drawing in draw_fleet(fleet)] == ["gains", "before-after"]


def test_without_truth_there_is_no_gain(tmp_path: Path) -> None:
    folder = write_fleet(tmp_path / "fleet")
    table = pd.read_parquet(folder / "per_image.parquet")
    table[["iou_before", "iou_face_mask", "truth_pixels"]] = float("nan")
    table.to_parquet(folder / "per_image.parquet")
    page = read_page(write_fleet_report(folder, {}, tmp_path / "report.html", title="Fleet"))
    assert "No image of this report has a known truth" in page.text
    assert len(page.all("img")) == 1, "the objective alone"


def test_an_evaluation_is_no_fleet(results: FakeResults) -> None:
    folder = results.evaluate("greedy", {"a": 0.5})
    with pytest.raises(ValueError, match=r"lacks the columns iou_before: name a folder that `s3pot overfit` wrote"):
        read_fleet(folder)
    with pytest.raises(FileNotFoundError, match=r"per_image\.parquet is missing: name a folder"):
        read_fleet(results.root / "nowhere")
