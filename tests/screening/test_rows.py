"""The table of a screening, and what is chosen from it."""

import math

import numpy as np
import pandas as pd

from s3pot.screening.rows import SCHEMA, as_frame, choose, label_by_score, new_row


def _row(name: str, **known: object) -> dict:
    return new_row({"id": name, "path": f"/photos/{name}"}, **known)


def test_the_last_row_of_an_image_counts_and_absent_numbers_stay_absent() -> None:
    rows = [
        _row("a", status="failed", attempts=6),
        _row("b", status="ok", score=0.5),
        _row("a", status="ok", attempts=1),
    ]
    table = as_frame(rows)
    assert list(table.columns) == SCHEMA.names
    assert dict(zip(table["id"], table["status"], strict=True)) == {"a": "ok", "b": "ok"}
    assert table.set_index("id").at["a", "attempts"] == 1
    assert table.set_index("id").at["b", "attempts"] is pd.NA
    assert table.set_index("id").at["b", "label"] is None or pd.isna(table.set_index("id").at["b", "label"])
    assert as_frame([]).empty


def test_labels_by_score() -> None:
    scores = {"above": 0.3, "at": 0.2, "below": 0.19, "nothing": 0.0, "faceless": None}
    rows = [_row(name, status="ok", score=score) for name, score in scores.items()]
    table = label_by_score(as_frame([*rows, _row("broken", status="failed", error="x")]), 0.2).set_index("id")
    labels = table["label"].to_dict()
    assert labels.pop("broken") is None
    assert labels == {"above": "occluded", "at": "occluded", "below": "free", "nothing": "free", "faceless": "no_face"}
    assert table.at["at", "reason"] == "score 0.2000, occluded from 0.2000 on"
    always = label_by_score(as_frame(rows), -math.inf).set_index("id")["label"]
    assert (always["below"], always["nothing"]) == ("occluded", "free")


def test_the_chosen_are_a_manifest_that_keeps_what_was_known() -> None:
    items = pd.DataFrame(
        {
            "id": ["c", "a", "b", "d"],
            "path": ["/p/c", "/p/a", "/p/b", "/p/d"],
            "truth_path": ["/t/c", "/t/a", None, None],
            "label": "of another screening",
        }
    )
    rows = [
        _row("a", status="ok", label="occluded", reason="a hand"),
        _row("b", status="ok", label="free", reason="clear"),
        _row("c", status="ok", label="unsure", reason="a shadow?"),
        _row("d", status="unparsed", answer="occluded"),
        _row("gone", status="ok", label="occluded", reason="a mask"),
    ]
    chosen = choose(items, as_frame(rows), ("occluded", "unsure"))
    assert chosen["id"].tolist() == ["c", "a"], "the order of the input"
    assert chosen["path"].tolist() == ["/p/c", "/p/a"]
    assert chosen["truth_path"].tolist() == ["/t/c", "/t/a"]
    assert chosen["label"].tolist() == ["unsure", "occluded"]
    assert chosen["reason"].tolist() == ["a shadow?", "a hand"]
    assert np.isnan(chosen["score"].to_numpy(float)).all()
