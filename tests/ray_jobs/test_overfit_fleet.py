"""Chunks, progress, and trials whose process dies, on a cluster; trials here do no work but write their rows."""

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray import tune

from ray_jobs import overfit_fleet
from ray_jobs.overfit_config import OverfitConfig
from ray_jobs.overfit_fleet import run_fleet
from ray_jobs.overfit_results import read_rows
from ray_jobs.overfit_trial import failed_row, write_part
from s3pot.config import ConfigError
from s3pot.store.errors import StoreError


class CountingProgress:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.finished = self.failed = 0

    def add(self, *, failed: bool = False) -> None:
        self.finished += 1
        self.failed += failed


def bare_trial(trial: dict[str, Any], *, config: OverfitConfig, folder: str, images: pa.Table) -> None:
    """Write a row per image that names the process: `b` counts as failed, `d` kills the process, `f` ends the trial."""
    chunk = images.slice(trial["chunk"]["first"], trial["chunk"]["count"]).to_pylist()
    ids = {image["id"] for image in chunk}
    if "d" in ids:
        os.kill(os.getpid(), signal.SIGKILL)
    if "f" in ids:
        raise StoreError("parts/1.parquet: cannot be written: No space left on device")
    rows = [failed_row(image, f"pid {os.getpid()}") for image in chunk]
    write_part(Path(folder), [row | {"status": "failed" if row["id"] == "b" else "ok"} for row in rows])
    tune.report({"images": len(rows), "failed": sum(row["id"] == "b" for row in rows)})


def table_of(ids: list[str]) -> pa.Table:
    names = ("id", "path", "kind", "face_id", "cutout_id")
    return pa.Table.from_pylist([{name: image_id for name in names} for image_id in ids])


def test_a_gpu_that_is_not_there_is_not_waited_for(
    ray_cluster: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    progress: Any = CountingProgress()
    config = OverfitConfig(store=tmp_path, gpus_per_trial=0.5)
    with pytest.raises(ConfigError, match=r"0\.5 GPUs are asked for and Ray sees 0"):
        run_fleet(table_of(["a"]), 1, config, tmp_path, progress)


@pytest.mark.parametrize("per_trial", [1, 2])
def test_a_trial_per_chunk_on_a_process_that_is_kept(
    ray_cluster: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_trial: int
) -> None:
    monkeypatch.setattr(overfit_fleet, "overfit_trial", bare_trial)
    progress: Any = CountingProgress()
    config = OverfitConfig(store=tmp_path, concurrent=1)
    assert run_fleet(table_of(["a", "b", "c", "e"]), per_trial, config, tmp_path, progress) == []
    rows = read_rows(tmp_path)
    assert rows["id"].tolist() == ["a", "b", "c", "e"]
    assert len(list((tmp_path / "parts").iterdir())) == 4 / per_trial
    assert rows["error"].nunique() == 1, "one process served all trials"
    assert (progress.finished, progress.failed) == (4, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["parts"], "nothing of Tune is left"


@pytest.mark.chaos
def test_a_trial_that_dies_takes_its_chunk_with_it_and_no_other(
    ray_cluster: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfit_fleet, "overfit_trial", bare_trial)
    progress: Any = CountingProgress()
    images = table_of(["a", "b", "c", "d", "e", "f", "g"])
    lost = run_fleet(images, 2, OverfitConfig(store=tmp_path, concurrent=1), tmp_path, progress)
    assert [each.image for each in lost] == table_of(["c", "d", "e", "f"]).to_pylist()
    killed, _, raised, _ = (each.reason for each in lost)
    assert "process has died" in killed
    assert raised.endswith("cannot be written: No space left on device")
    assert read_rows(tmp_path)["id"].tolist() == ["a", "b", "g"]
    assert progress.finished == 3
