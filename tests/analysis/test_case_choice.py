import math

from analysis.case_choice import choose_sections
from tests.analysis.fake_results import FakeResults


def test_worst_and_best_follow_the_last_evaluation(results: FakeResults) -> None:
    results.evaluate("first", dict(zip("abcdef", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True)))
    results.evaluate("last", dict(zip("abcdef", (0.1, 0.3, 0.2, 0.9, 0.7, 0.8), strict=True)))
    worst, best, others = choose_sections(results.manifest(), results.read(), 8)
    assert worst.ids == ("a", "c")
    assert best.ids == ("d", "f")
    assert others.ids == ("b", "e")
    assert "last" in worst.explanation
    assert others.explanation.startswith("All")


def test_images_without_iou_are_not_ranked_and_failed_ones_not_shown(results: FakeResults) -> None:
    results.add_failure("e", "truncated")
    results.evaluate("greedy", {"a": 0.1, "b": math.nan, "c": None, "d": 0.2, "e": None})
    worst, best, others = choose_sections(results.manifest(), results.read(), 24)
    assert (worst.ids, best.ids, others.ids) == (("a",), ("d",), ("b", "c"))


def test_no_more_than_asked_for_and_evenly_spaced(results: FakeResults) -> None:
    results.evaluate("greedy", {f"{number:02d}": number / 100 for number in range(40)})
    for pictures in range(12):
        sections = choose_sections(results.manifest(), results.read(), pictures)
        ids = [image_id for section in sections for image_id in section.ids]
        assert len(ids) == len(set(ids)) == pictures
    others = choose_sections(results.manifest(), results.read(), 12)[-1]
    assert others.ids == ("03", "08", "14", "20", "25", "31")
    assert others.explanation.startswith("6 of 34, evenly spaced")


def test_without_evaluation_the_store_is_shown(results: FakeResults) -> None:
    results.add_image("b")
    results.add_image("a")
    [section] = choose_sections(results.manifest(), [], 24)
    assert (section.title, section.ids) == ("Images", ("a", "b"))


def test_nothing_to_show(results: FakeResults) -> None:
    results.add_failure("a", "truncated")
    assert choose_sections(results.manifest(), [], 24) == []
