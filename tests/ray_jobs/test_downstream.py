from pathlib import Path

import pandas as pd
import pytest

from ray_jobs.downstream import DownstreamConfig, downstream
from ray_jobs.evaluate import EvaluateConfig, evaluate
from s3pot.store.prompt_store import PromptStore


def test_it_prints_and_writes_what_the_masks_are_worth(
    astronaut_store: PromptStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, head="none", runs=tmp_path))
    out = tmp_path / "downstream.csv"
    summary = downstream(DownstreamConfig(store=astronaut_store.root, evaluation=folder, out=out))
    assert "miou_relabelled" in capsys.readouterr().out
    found = summary.set_index(["mask", "measure"])["mean"]
    assert found["true", "accuracy_relabelled"] > found["none", "accuracy_relabelled"]
    assert found["true", "accuracy_relabelled"] >= found["predicted", "accuracy_relabelled"]
    pd.testing.assert_series_equal(pd.read_csv(out)["mean"], summary["mean"])
