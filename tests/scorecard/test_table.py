"""Targets met and missed, and how they are printed."""

import json
import math

import pytest

from s3pot.scorecard.estimates import Estimate
from s3pot.scorecard.table import TARGETS, Row, Target, assemble, to_dicts, to_markdown


def row(value: float, low: float = math.nan, **target: object) -> Row:
    described = {"key": "k", "model": "chain", "measure": "m"} | target
    return Row(target=Target(**described), estimate=Estimate(mean=value, low=low, high=value, n=3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "met"),
    [
        (row(0.7, target=0.7), "yes"),
        (row(0.69, target=0.7), "no"),
        (row(0.07, target=0.07, better="lower"), "yes"),
        (row(0.08, target=0.07, better="lower"), "no"),
        (row(0.72, target=0.7, aim=0.76), "floor"),
        (row(0.76, target=0.7, aim=0.76), "yes"),
        (row(0.69, target=0.7, aim=0.76), "no"),
        (row(0.2, low=0.1, target=0.0, claim=True), "yes"),
        (row(0.2, low=-0.1, target=0.0, claim=True), "no"),
        (row(0.2, target=0.0, claim=True), "no"),  # without an interval nothing is claimed
        (row(0.5), "reported"),
        (row(math.nan, target=0.5), "not measured"),
        (Row(target=Target(key="k", model="chain", measure="m", target=0.5), estimate=None), "not measured"),
    ],
)
def test_what_is_met(made: Row, met: str) -> None:
    assert made.met == met


def test_the_table_holds_the_targets_of_the_issue() -> None:
    wanted = {target.key: (target.target, target.aim, target.better) for target in TARGETS if target.target is not None}
    assert wanted["sam/occluder/1+0"] == (0.55, None, "higher")
    assert wanted["chain/overfit"] == (0.74, 0.80, "higher")
    assert wanted["chain/clean_marked"] == (0.10, None, "lower")
    assert len({target.key for target in TARGETS}) == len(TARGETS)


def test_rows_come_in_order_and_say_what_is_missing() -> None:
    rows = assemble(
        {"chain/iou": Estimate(mean=0.71, low=0.66, high=0.75, n=200, ceiling=0.99, note="a | b")}, ["chain"]
    )
    assert [made.target.key for made in rows] == [target.key for target in TARGETS if target.model == "chain"]
    lines = to_markdown(rows).splitlines()
    assert lines[2] == (
        "| chain | occlusion IoU, one head | 0.710 [0.660, 0.750] | 200 | 0.990 | >= 0.70 (aim 0.76) | floor | a / b |"
    )
    assert lines[3] == "| chain | the same over all images | not measured |  |  |  | not measured |  |"


def test_json_knows_no_nan() -> None:
    rows = assemble({"all/megabytes": Estimate(mean=20.0)}, ["all"])
    dicts = json.loads(json.dumps(to_dicts(rows), allow_nan=False))
    assert (dicts[0]["key"], dicts[0]["mean"], dicts[0]["low"], dicts[0]["met"]) == ("all/megabytes", 20.0, None, "yes")
    assert (dicts[1]["mean"], dicts[1]["met"]) == (None, "not measured")


def test_an_estimate_without_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="sam/ocluder"):
        assemble({"sam/ocluder": Estimate(mean=1.0)})
