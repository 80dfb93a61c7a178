"""Bytes are added up; seconds are reported for both batch sizes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from s3pot.ladder import LadderImage
from s3pot.scorecard.cost import estimate_seconds, estimate_size
from tests.faces import draw_face
from tests.stand_ins import drawn_prefix


def test_megabytes_are_added_up(tmp_path: Path) -> None:
    for name, size in (("a", 1_500_000), ("b", 500_000)):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(size))
    found = estimate_size([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])["all/megabytes"]
    assert (found.mean, found.note) == (pytest.approx(2.0), "a 1.5, b 0.5")


def test_seconds_are_reported_per_batch_size(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    object.__setattr__(entry, "image", draw_face(256)[0])
    found = estimate_seconds([entry], drawn_prefix(), repeats=1, warm_up=0)
    assert sorted(found) == ["all/seconds_batch_1", "all/seconds_batch_8"]
    assert all(estimate.n == 1 and "threads" in estimate.note for estimate in found.values())
