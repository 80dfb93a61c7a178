"""Evaluate a head, a baseline in the box, or masks of any other method: a table per image, a summary with intervals.

python ray_jobs/evaluate.py store=runs/stores/dev head=runs/train/standard/reweighter.safetensors
python ray_jobs/evaluate.py store=runs/stores/dev head=none                  (prompts as they are)
python ray_jobs/evaluate.py store=runs/stores/dev baseline=persam            (s3pot/baselines/methods.py lists them)
python ray_jobs/evaluate.py store=runs/stores/dev masks=other-method         (a folder of <id>.png, 0 or 255)
python ray_jobs/evaluate.py store=runs/stores/dev masks=segface.yaml missing=empty      (docs/adapters.md)
python ray_jobs/evaluate.py experiments/table1.yaml store=runs/stores/dev clean=runs/stores/dev_clean    (a table)
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from ray_jobs.job_cli import PartlyFailed, job_command, run_alone, with_absolute_paths
from ray_jobs.measured_method import MethodConfig, OpenStore, head_file, head_hash, measure_method
from ray_jobs.method_table import MethodTable, table_text, write_method_table
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.tracking import TrackedRun, tracked_run
from s3pot.config import ConfigError, to_mapping
from s3pot.evaluation import mask_path
from s3pot.images import write_png
from s3pot.metrics.slices import ATTRIBUTE
from s3pot.metrics.summary import FAILED, Summary, summarise
from s3pot.store.manifest import CARRIED

_log = logging.getLogger("s3pot.evaluate")
__all__ = ["EvaluateConfig", "MaskWriter", "evaluate", "finish_evaluation", "head_file"]
# What a list of images says anyway is no attribute of theirs.
_NO_ATTRIBUTES = frozenset({"id", "path", "status", "error", "split", *CARRIED})


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(MethodConfig):
    """What is evaluated on what: one method, or a table of `methods`.

    Attributes:
        store: store whose manifest names the truth.
        head: a trained head's file, `embedded` for the shipped one, or `none` for the prompts as they are; also of the
            baselines and rungs that decode prompts.
        masks: predictions of another method to evaluate instead: a folder of `<id>.png` (original frame, 255 =
            occluded), or a .yaml, .csv or .parquet that says what its files hold (docs/adapters.md).
        method: which method's rows of a table of predictions that holds several.
        missing: what an image without a prediction is: `error` = a failed row, `empty` = nothing predicted, `exclude` =
            no part of the means.
        full_face: of masks that segment the face: `stored` = the completed parsing, `region` = the true face region R,
            or a folder of `<id>.png`; occlusion = full face minus visible face.
        baseline: a method in the box to evaluate instead (s3pot/baselines/methods.py).
        weights: file of the supervised network, for baseline=supervised alone.
        rung: a rung of the oracle ladder to evaluate instead, on composites at the working size; runs the chain anew.
        result: folder of a result that is there, such as a per-image overfitting run, to be part of a table.
        methods: several methods by name, each with the keys above; the first is the one that others are compared with.
        clean: store of faces without occluder, for the false-positive area in a table of methods.
        again: measure methods of a table again that were measured before.
        attributes: CSV or Parquet file with `id` and whatever is known of the images (`alpha` = opacity of the
            occluder); each column becomes slices.
        seed: of random prompts and the bootstrap intervals.
        name: run name; None = store name and identity hash, of a table the store name and `methods`.
        runs: folder of all runs and the MLflow database.
    """

    store: Path
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    again: bool = False
    attributes: Path | None = None
    seed: int = 0
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check what predicts."""
        super().__post_init__()
        wrong = [name for name in self.methods if not name or "/" in name or name.startswith(".")]
        if wrong:
            raise ValueError(f"methods: {wrong[0]!r} is no name for a folder")
        if self.clean is not None and not self.methods:
            raise ValueError("clean is for a table of methods; evaluate the store of clean faces by itself")


def evaluate(config: EvaluateConfig) -> Path:
    """Evaluate and return the run's folder: per_image.parquet, summary.json, masks/; or those of several methods.

    Raises:
        PartlyFailed: if images of the store had failed, or a method of a table could not be measured.
        FileNotFoundError: if the head or another file is not there.
    """
    config = _absolute(config)
    if config.methods:
        return _evaluate_methods(config)
    opened = OpenStore(config.store)
    hashes = {"store_identity": opened.store.description["identity"], "head_hash": head_hash(config)}
    name = config.name or f"{opened.store.root.name}-{identity(config, *hashes.values())}"
    folder = open_run(config.runs, "evaluate", name, config)
    with tracked_run("evaluate", name, to_mapping(config) | hashes, config.runs) as tracked:
        measured = measure_method(config, opened, seed=config.seed, on_mask=MaskWriter(folder))
        table = _with_attributes(measured.table, config.attributes)
        summary = finish_evaluation(table, folder, tracked, {}, config.seed, measured.facts)
    typer.echo(summary_text(table, summary))
    _raise_failed(table)
    return folder


def _absolute(config: EvaluateConfig) -> EvaluateConfig:
    single = config.with_absolute_paths()
    own = {name: getattr(single, name) for name in MethodConfig.__dataclass_fields__}
    methods = {name: method.with_absolute_paths() for name, method in config.methods.items()}
    return with_absolute_paths(replace(config, **own, methods=methods))


def _raise_failed(table: pd.DataFrame) -> None:
    failed = table[table["status"] == FAILED]
    if len(failed):
        raise PartlyFailed(f"{len(failed)} of {len(table)} images failed, first: {failed['error'].iloc[0]}")


def _with_attributes(table: pd.DataFrame, path: Path | None) -> pd.DataFrame:
    """Join what is known of the images by their id."""
    if path is None:
        return table
    known = pd.read_csv(path, dtype={"id": str}) if path.suffix == ".csv" else pd.read_parquet(path)
    if "id" not in known.columns or known["id"].duplicated().any():
        raise ConfigError(str(path), ["attributes need a column id that names every image once"])
    known["id"] = known["id"].astype(str)
    columns = [name for name in known.columns if name not in _NO_ATTRIBUTES]
    return table.merge(known[["id", *columns]].rename(columns={name: ATTRIBUTE + name for name in columns}), how="left")


def _evaluate_methods(config: EvaluateConfig) -> Path:
    """Measure every method that is not measured yet, and write the table of all."""
    stores = {"": OpenStore(config.store)} | ({"clean": OpenStore(config.clean)} if config.clean else {})
    name = config.name or f"{config.store.name}-methods"
    folder = open_run(config.runs, "evaluate", name, config)
    problems: dict[str, str] = {}
    with tracked_run("evaluate", name, to_mapping(config), config.runs) as tracked:
        for method, settings in config.methods.items():
            with tracked.child(method, to_mapping(settings)) as child:
                for part, opened in stores.items():
                    chosen = settings.for_clean_faces() if part else settings
                    if chosen is None:
                        continue
                    place = folder / method / part
                    try:
                        _measure_once(chosen, opened, place, config, child if not part else None)
                    except (ConfigError, FileNotFoundError, ValueError) as error:
                        _log.warning("%s: not measured: %s", method, error)
                        problems[f"{method}/{part}".rstrip("/")] = str(error)
        table = write_method_table(
            folder, list(config.methods), problems, clean=config.clean is not None, seed=config.seed
        )
        for path in table.files:
            tracked.log_artifact(path)
    typer.echo(table_text(table))
    typer.echo(f"({folder})")
    _raise_unmeasured(table, len(config.methods))
    return folder


def _measure_once(
    method: MethodConfig, opened: OpenStore, folder: Path, config: EvaluateConfig, tracked: TrackedRun | None
) -> None:
    """Measure a method unless its folder holds the same measurement; masks and results of others are always read."""
    version = str(config.attributes.stat().st_mtime_ns) if config.attributes else ""
    known = identity(method, opened.identity, head_hash(method), str(config.seed), version)
    note = folder / "measured.json"
    settled = method.masks is None and method.result is None and not config.again
    if settled and note.is_file() and json.loads(note.read_text())["identity"] == known:
        _log.info("%s: measured before", folder)
        return
    note.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    _log.info("%s: measuring", folder)
    measured = measure_method(method, opened, seed=config.seed, on_mask=MaskWriter(folder))
    table = _with_attributes(measured.table, config.attributes)
    finish_evaluation(table, folder, tracked, {}, config.seed, measured.facts)
    write_text(note, json.dumps({"identity": known, "method": to_mapping(method)}, indent=2) + "\n")


def _raise_unmeasured(table: MethodTable, methods: int) -> None:
    if table.problems:
        first = next(iter(table.problems.items()))
        raise PartlyFailed(f"{len(table.problems)} of {methods} methods not measured, first: {first[0]}: {first[1]}")
    if table.failed:
        first_failed = next(iter(table.failed.items()))
        raise PartlyFailed(
            f"{len(table.failed)} methods have failed images, first: {first_failed[0]}: {first_failed[1]}"
        )


class MaskWriter:
    """Writes predicted masks to `<folder>/masks/<id>.png`, 0 or 255."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, image_id: str, occlusion: np.ndarray) -> None:
        """Write one mask, (H, W) bool."""
        write_png(mask_path(self.folder, image_id), occlusion.astype(np.uint8) * 255)


def finish_evaluation(
    table: pd.DataFrame,
    folder: Path,
    tracked: TrackedRun | None,
    extra: Mapping[str, float],
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> Summary | None:
    """Write per_image.parquet and summary.json and log both; returns the summary, None without any truth.

    Args:
        table: one row per image.
        folder: of the run.
        tracked: where to log; None = nowhere.
        extra: further numbers.
        seed: of the bootstrap.
        facts: what else summary.json says.
    """
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
    finite = {key: _finite(value) for key, value in numbers.items()}
    content = {"metrics": [_strict(row) for row in entries], **finite, **(facts or {})}
    write_text(folder / "summary.json", json.dumps(content, indent=2) + "\n")
    if tracked is None:
        return summary
    tracked.log_metrics({key: value for key, value in numbers.items() if math.isfinite(value)})
    tracked.log_artifact(folder / "per_image.parquet")
    tracked.log_artifact(folder / "summary.json")
    return summary


def summary_text(table: pd.DataFrame, summary: Summary | None) -> str:
    """Return the few lines a user wants to see first."""
    if summary is None:
        return f"{len(table)} images, no truth: masks only"
    lines = [f"{len(table)} images, {summary.counts['failed']} failed"]
    for metric in ("iou_face_mask", "precision", "recall", "boundary_f", "prompt_precision", "prompt_recall"):
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
