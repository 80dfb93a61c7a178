import base64
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.case_panels import Panel, StoredCase, draw_panels, read_cases, similarity_limits
from analysis.stage_pictures import PANEL_SIDE
from s3pot.images import decode_image, write_png
from s3pot.store import PromptStore
from tests.analysis.fake_results import FakeResults


def stored(results: FakeResults, image_id: str) -> StoredCase:
    return read_cases(PromptStore(results.store), [image_id])[image_id]


def drawn(results: FakeResults, image_id: str) -> tuple[dict[str, Panel], list[str]]:
    evaluations = results.read()
    case = stored(results, image_id)
    panels = draw_panels(case, evaluations, [f"score of {evaluation.name}" for evaluation in evaluations], (0.0, 1.0))
    return {panel.caption: panel for panel in panels}, case.complaints


def pixels(panel: Panel) -> np.ndarray:
    assert panel.source is not None
    return decode_image(base64.b64decode(panel.source.partition("base64,")[2]), panel.caption)


def test_all_stages_in_order(results: FakeResults) -> None:
    results.add_image("a")
    results.evaluate("greedy", {"a": 0.5})
    results.evaluate("overfit", {"a": 0.7})
    panels, complaints = drawn(results, "a")
    assert list(panels) == [
        "Original", "Parsing", "Reference", "Similarity", "Prompts", "greedy", "overfit", "Truth",
    ]  # fmt: skip
    assert complaints == []
    assert {pixels(panel).shape for panel in panels.values()} == {(PANEL_SIDE, PANEL_SIDE, 3)}
    assert panels["overfit"].detail == "score of overfit"
    assert panels["Prompts"].alt == "a: 2 occlusion prompts and 3 face prompts over the picture"
    assert "skin" in panels["Parsing"].alt
    assert panels["Similarity"].detail == "0.10 to 0.90"


def test_the_truth_is_shown_only_where_there_is_one(results: FakeResults) -> None:
    results.add_image("a", truth=False)
    panels, complaints = drawn(results, "a")
    assert list(panels) == ["Original", "Parsing", "Reference", "Similarity", "Prompts"]
    assert complaints == []


def test_a_missing_photograph_is_said_and_the_rest_is_drawn(results: FakeResults) -> None:
    results.add_image("a")
    results.evaluate("greedy", {"a": 0.5})
    Path(stored(results, "a").row.path).unlink()
    panels, complaints = drawn(results, "a")
    assert panels["Original"].source is None
    assert panels["greedy"].source is not None
    [complaint] = complaints
    assert complaint.startswith("The picture cannot be shown: ")
    assert complaint.endswith("image.png: No such file or directory")


def test_a_photograph_that_changed_is_not_shown(results: FakeResults) -> None:
    results.add_image("a", image_sha256="0" * 64)
    panels, complaints = drawn(results, "a")
    assert panels["Original"].source is None
    assert "has changed since it was encoded" in complaints[0]


def test_a_missing_or_wrong_mask_and_truth_are_said(results: FakeResults) -> None:
    results.add_image("a")
    folder = results.evaluate("none", {"a": 0.5}, masks=False)
    results.evaluate("small", {"a": 0.5})
    write_png(results.evaluations["small"] / "masks" / "a.png", np.zeros((8, 8), dtype=np.uint8))
    Path(stored(results, "a").row.truth_path).write_bytes(b"no image")
    panels, complaints = drawn(results, "a")
    assert [panels[name].source for name in ("none", "small", "Truth")] == [None, None, None]
    assert str(folder / "masks" / "a.png") in complaints[0]
    assert "expected a mask of the picture's size (64, 64), got (8, 8)" in complaints[1]
    assert "The truth cannot be shown" in complaints[2]


def test_an_id_does_not_lead_out_of_the_evaluation(results: FakeResults) -> None:
    hostile = "../../secret"
    results.add_image(hostile)
    results.evaluate("greedy", {hostile: 0.5}, masks=False)
    write_png(results.root / "secret.png", np.zeros((64, 64), dtype=np.uint8))
    panels, complaints = drawn(results, hostile)
    assert panels["greedy"].source is None
    assert "leads out of" in complaints[0]


@pytest.mark.parametrize("image_id", ["null\0byte", "x" * 5000])
def test_an_id_that_is_no_file_name(results: FakeResults, image_id: str) -> None:
    results.add_image(image_id)
    results.evaluate("greedy", {image_id: 0.5}, masks=False)
    panels, complaints = drawn(results, image_id)
    assert panels["greedy"].source is None
    assert len(complaints) == 1


def test_damaged_stages_are_said(results: FakeResults) -> None:
    results.add_image("a", parsing_png=b"x", reference_jpeg=b"y", similarity=b"12")
    panels, complaints = drawn(results, "a")
    assert list(panels) == ["Original", "Truth"]
    assert panels["Original"].detail == "whole picture"
    assert [complaint.split(" cannot")[0] for complaint in complaints] == ["The parsing", "The reference"]


def test_a_grid_that_is_not_square_is_said(results: FakeResults) -> None:
    results.add_image("a", similarity=np.zeros(12, dtype="<f2").tobytes())
    panels, complaints = drawn(results, "a")
    assert "Similarity" not in panels
    assert "square grid" in complaints[0]


def test_without_a_face_the_whole_picture_is_shown(results: FakeResults) -> None:
    nothing = dict.fromkeys(("parsing_png", "reference_jpeg", "similarity", "to_original"))
    results.add_image("a", status="no_face", **nothing)
    results.evaluate("greedy", {"a": 0.0})
    panels, complaints = drawn(results, "a")
    assert list(panels) == ["Original", "greedy", "Truth"]
    assert complaints == []


def test_nothing_at_all_gives_no_panels(results: FakeResults) -> None:
    results.add_failure("a", "truncated")
    panels, complaints = drawn(results, "a")
    assert panels == {}
    assert "the manifest names no file" in complaints[0]


def test_the_color_scale_spans_all_images(results: FakeResults) -> None:
    results.add_image("a")
    results.add_image("b", similarity=np.full(64, -0.5, dtype="<f2").tobytes())
    cases = [stored(results, image_id) for image_id in "ab"]
    assert similarity_limits(cases) == pytest.approx((-0.5, 0.9), abs=1e-3)
    assert similarity_limits([]) == (0.0, 1.0)
    low, high = similarity_limits(cases[1:])
    assert low < -0.5 < high
    assert all(map(math.isfinite, (low, high)))
    assert similarity_limits([StoredCase(row=None)]) == (0.0, 1.0)
