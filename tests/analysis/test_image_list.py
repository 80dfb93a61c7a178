import json
import math

import pandas as pd
import pytest

from analysis import image_list
from analysis.image_list import ValueColumn, list_evaluations, list_images
from tests.analysis.fake_results import FakeResults

IOU = ValueColumn(key="iou", label="IoU", explanation="")


def test_the_last_evaluation_comes_first_and_gains_over_the_first(results: FakeResults) -> None:
    results.evaluate("first", {"a": 0.5, "b": 0.2})
    results.evaluate("middle", {"a": 0.6, "b": 0.3})
    results.evaluate("last", {"a": 0.4, "c": math.nan})
    listed = list_evaluations(
        results.read(), {ValueColumn(key="steps", label="steps", explanation=""): pd.Series({"a": 7})}
    )
    assert [(column.key, column.label) for column in listed.columns] == [
        ("iou", "IoU last"),
        ("iou1", "IoU first"),
        ("iou2", "IoU middle"),
        ("gain", "last − first"),
        ("steps", "steps"),
    ]
    assert list(listed.rows) == ["a", "b", "c"]
    assert listed.rows["a"].values == pytest.approx({"iou": 0.4, "iou1": 0.5, "iou2": 0.6, "gain": -0.1, "steps": 7})
    assert json.loads(listed.rows["b"].data) == {"iou1": 0.2, "iou2": 0.3}
    assert (listed.rows["b"].kind, listed.rows["b"].status) == ("objects", "ok"), "from an evaluation that has it"
    assert (listed.kinds, listed.statuses, listed.total) == (["clean", "objects"], ["ok"], 3)


def test_too_many_images_are_the_lowest_and_those_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_list, "ROWS_LISTED", 3)
    table = pd.DataFrame(
        {"kind": None, "status": "ok", "iou": [0.5, 0.1, math.nan, 0.9, 0.2, 0.3]}, index=list("abcdef")
    )
    listed = list_images(table, [IOU], keep=["d", "elsewhere"])
    assert list(listed.rows) == ["b", "d", "e", "f"]
    assert listed.total == 6
