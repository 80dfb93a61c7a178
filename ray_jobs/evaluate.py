"""Evaluate a head, or masks of any other method, against truth: a table per image and a summary with intervals.

python ray_jobs/evaluate.py store=runs/stores/dev head=runs/train/standard/reweighter.safetensors
python ray_jobs/evaluate.py store=runs/stores/dev head=none             (prompts as they are)
python ray_jobs/evaluate.py store=runs/stores/dev masks=other-method    (a folder of <id>.png, 0 or 255)
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from ray_jobs.job_cli import PartlyFailed, absolute, job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.tracking import TrackedRun, tracked_run
from s3pot.config import to_mapping
from s3pot.embedded import file_hash, weights_path
from s3pot.evaluation import evaluate_masks, evaluate_store, mask_path
from s3pot.head.head_file import load_reweighter
from s3pot.images import write_png
from s3pot.metrics.summary import FAILED, Summary, summarise
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.evaluate")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated on what.

    Attributes:
        store: store whose manifest names the truth.
        head: a trained head's file, `embedded` for the shipped one, or `none` for the prompts as they are.
        masks: folder of predicted masks `<id>.png` (original frame, 255 = occluded) to evaluate instead of a head.
        seed: of the bootstrap intervals.
        name: run name; None = store name and identity hash.
        runs: folder of all runs and the MLflow database.
    """

    store: Path
    head: str = "embedded"
    masks: Path | None = None
    seed: int = 0
    name: str | None = None
    runs: Path = Path("runs")


def evaluate(config: EvaluateConfig) -> Path:
    """Evaluate and return the run's folder: per_image.parquet, summary.json, masks/.

    Raises:
        PartlyFailed: if images of the store had failed.
        FileNotFoundError: if the head is not there.
    """
    config = with_absolute_paths(config)
    store = PromptStore(config.store)
    head = head_file(config.head)
    inputs = [store.description["identity"], file_hash(head) if head else "none"]
    name = config.name or f"{store.root.name}-{identity(config, *inputs)}"
    folder = open_run(config.runs, "evaluate", name, config)
    params = to_mapping(config) | {"store_identity": inputs[0], "head_hash": inputs[1]}
    with tracked_run("evaluate", name, params, config.runs) as tracked:
        if config.masks is not None:
            table = evaluate_masks(store, config.masks)
        else:
            sam = store.load_sam()
            reweighter = None if head is None else load_reweighter(head, sam.device, chain=store.chain)
            table = evaluate_store(store, sam, reweighter, on_mask=MaskWriter(folder))
        summary = finish_evaluation(table, folder, tracked, {}, config.seed)
    typer.echo(summary_text(table, summary))
    failed = table[table["status"] == FAILED]
    if len(failed):
        raise PartlyFailed(f"{len(failed)} of {len(table)} images failed, first: {failed['error'].iloc[0]}")
    return folder


def head_file(head: str) -> Path | None:
    """Resolve `head`: a file, `embedded`, or `none`.

    Raises:
        FileNotFoundError: if the file is not there.
    """
    if head == "none":
        return None
    if head == "embedded":
        return weights_path("reweighter")
    path = absolute(Path(head))
    if not path.is_file():
        raise FileNotFoundError(f"head={head}: no such file; train one with ray_jobs/train.py, or say embedded or none")
    return path


class MaskWriter:
    """Writes predicted masks to `<folder>/masks/<id>.png`, 0 or 255."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, image_id: str, occlusion: np.ndarray) -> None:
        """Write one mask, (H, W) bool."""
        write_png(mask_path(self.folder, image_id), occlusion.astype(np.uint8) * 255)


def finish_evaluation(
    table: pd.DataFrame, folder: Path, tracked: TrackedRun, extra: Mapping[str, float], seed: int = 0
) -> Summary | None:
    """Write per_image.parquet and summary.json and log both; returns the summary, None without any truth."""
    table.to_parquet(folder / "per_image.parquet", index=False)
    summary = (
        summarise(table, seed=seed) if len(table) and table.get("truth_pixels", pd.Series()).notna().any() else None
    )
    numbers = dict(extra)
    entries: list[dict[str, Any]] = []
    if summary is not None:
        entries = summary.metrics.to_dict("records")
        numbers |= {f"{row['scope']}_{row['metric']}": row["mean"] for row in entries if not row["kind"]}
        numbers |= {key: float(count) for key, count in summary.counts.items()}
    content = {"metrics": [_strict(row) for row in entries], **{key: _finite(value) for key, value in numbers.items()}}
    write_text(folder / "summary.json", json.dumps(content, indent=2) + "\n")
    tracked.log_metrics({key: value for key, value in numbers.items() if math.isfinite(value)})
    tracked.log_artifact(folder / "per_image.parquet")
    tracked.log_artifact(folder / "summary.json")
    return summary


def summary_text(table: pd.DataFrame, summary: Summary | None) -> str:
    """Return the few lines a user wants to see first."""
    if summary is None:
        return f"{len(table)} images, no truth: masks only"
    lines = [f"{len(table)} images, {summary.counts['failed']} failed"]
    for metric in ("iou_face_mask", "precision", "recall", "prompt_precision", "prompt_recall"):
        interval = summary.value(metric, scope="overall")
        lines.append(f"{metric:18s} {interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}] n={interval.n}")
    return "\n".join(lines)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _strict(row: dict[str, Any]) -> dict[str, Any]:
    # Strict JSON knows no NaN.
    return {key: _finite(value) if isinstance(value, float) else value for key, value in row.items()}


command = job_command(EvaluateConfig, evaluate, {}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
