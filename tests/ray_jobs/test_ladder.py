"""The ladder as a job, with the embedded models as they ship."""

from pathlib import Path

import pytest

from ray_jobs.ladder import LadderConfig, ladder
from s3pot.ladder import RUNGS


def test_it_prints_every_rung_for_every_head(
    astronaut_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means = ladder(LadderConfig(manifest=astronaut_manifest, runs=tmp_path))
    assert sorted(zip(means["rung"], means["head"], strict=True)) == sorted(
        (rung, head) for rung in RUNGS for head in ("none", "reweighter")
    )
    assert means["n"].eq(4).all()
    printed = capsys.readouterr().out
    assert all(rung in printed for rung in RUNGS)
    assert means.loc[(means["rung"] == "chain") & (means["head"] == "none"), "difference"].tolist() == [0.0]
    iou = means.set_index(["rung", "head"])["iou"]
    assert iou["true_prompts", "none"] > iou["random_prompts", "none"]
