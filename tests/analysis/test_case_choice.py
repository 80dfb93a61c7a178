import math

import pytest

from analysis.case_choice import Section, choose_sections
from tests.analysis.fake_results import FakeResults


def by_title(sections: list[Section]) -> dict[str, tuple[str, ...]]:
    return {section.title: section.ids for section in sections}


def test_worst_best_gains_and_losses_follow_the_last_evaluation(results: FakeResults) -> None:
    results.evaluate("first", dict(zip("abcdefgh", (0.9, 0.8, 0.1, 0.6, 0.5, 0.8, 0.4, 0.5), strict=True)))
    results.evaluate("last", dict(zip("abcdefgh", (0.1, 0.3, 0.6, 0.9, 0.7, 0.4, 0.5, 0.5), strict=True)))
    sections = choose_sections(results.manifest(), results.read(), 8)
    found = by_title(sections)
    assert found == {
        "Worst cases": ("a",),
        "Best cases": ("d",),
        "Largest gains": ("c",),
        "Largest losses": ("b",),  # a loses more, and is shown already
        "Random images": ("e", "f", "g", "h"),
    }
    assert "last" in sections[0].explanation
    assert "last" in sections[2].explanation
    assert "first" in sections[2].explanation
    assert sections[-1].explanation.startswith("All")


def test_one_evaluation_has_no_gains(results: FakeResults) -> None:
    results.evaluate("greedy", dict(zip("abcdef", (0.1, 0.3, 0.2, 0.9, 0.7, 0.8), strict=True)))
    found = by_title(choose_sections(results.manifest(), results.read(), 8))
    assert found == {"Worst cases": ("a", "c"), "Best cases": ("d", "f"), "Random images": ("b", "e")}


def test_images_without_iou_are_not_ranked_and_failed_ones_not_shown(results: FakeResults) -> None:
    results.add_failure("e", "truncated")
    results.evaluate("greedy", {"a": 0.1, "b": math.nan, "c": None, "d": 0.2, "e": None})
    worst, best, others = choose_sections(results.manifest(), results.read(), 24)
    assert (worst.ids, best.ids, others.ids) == (("a",), ("d",), ("b", "c"))


@pytest.mark.parametrize("runs", [("greedy",), ("greedy", "overfit")])
def test_no_more_than_asked_for(results: FakeResults, runs: tuple[str, ...]) -> None:
    for place, name in enumerate(runs):
        results.evaluate(name, {f"{number:02d}": (number * (7 + 4 * place)) % 40 / 40 for number in range(40)})
    for pictures in range(20):
        sections = choose_sections(results.manifest(), results.read(), pictures)
        ids = [image_id for section in sections for image_id in section.ids]
        assert len(ids) == len(set(ids)) == pictures


def test_the_draw_is_random_but_always_the_same(results: FakeResults) -> None:
    results.evaluate("greedy", {f"{number:03d}": number / 400 for number in range(400)})
    draw, again = (choose_sections(results.manifest(), results.read(), 208)[-1] for _ in range(2))
    assert draw == again
    assert draw.explanation.startswith("200 of 392, drawn at random")
    assert list(draw.ids) == sorted(draw.ids)
    steps = {int(b) - int(a) for a, b in zip(draw.ids, draw.ids[1:], strict=False)}
    assert len(steps) > 3, "evenly spaced is not random"
    assert abs(sum(map(int, draw.ids)) / 200 - 200) < 20, "low ids are no likelier than high ones"


def test_without_evaluation_the_store_is_shown(results: FakeResults) -> None:
    results.add_image("b")
    results.add_image("a")
    [section] = choose_sections(results.manifest(), [], 24)
    assert (section.title, section.ids) == ("Images", ("a", "b"))


def test_nothing_to_show(results: FakeResults) -> None:
    results.add_failure("a", "truncated")
    assert choose_sections(results.manifest(), [], 24) == []
