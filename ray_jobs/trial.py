"""A trial: train one head with one setting and one seed, and evaluate it. Pure: the same wherever it runs.

    <folder>/trial.yaml               all there is to know: settings, stores, images
    <folder>/history.jsonl            one row per epoch
    <folder>/reweighter.safetensors   the head, when one was trained
    <folder>/per_image.parquet        the evaluation, columns of `evaluate_store`
    <folder>/result.json              status, numbers, seconds; written last: a trial without it is not done

One process, and on a CPU one thread, so that a number does not depend on what else runs. `sweep` schedules trials,
`rerun` repeats one.
"""

import json
import math
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from ray_jobs.run_folder import write_text
from ray_jobs.train_config import HeadConfig
from ray_jobs.train_worker import HEAD_FILE, HISTORY, read_history
from s3pot import yaml12
from s3pot.chain import ChainConfig
from s3pot.config import load_yaml, parse, to_mapping
from s3pot.evaluation import evaluate_store
from s3pot.head.epoch_report import EpochReport
from s3pot.head.head_file import save_head
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.reweighter import PromptReweighter
from s3pot.head.training import TrainingConfig, train_head
from s3pot.metrics.per_image import OCCLUDED_METRICS
from s3pot.metrics.summary import FAILED
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore

TRIAL, RESULT, TABLE = "trial.yaml", "result.json", "per_image.parquet"
OnEpoch = Callable[[dict[str, float]], None]
# Numbers of an epoch that say how fast it went, not what it learned.
_PACE = ("seconds", "images_per_second", "data_wait", "peak_memory")


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """What an experiment may vary.

    Attributes:
        chain: models and frozen stages.
        head: form of the reweighter.
        training: optimisation; the seeds of a sweep take the place of its seed.
        objective: which objective.
        reweighter: `on` trains a head, `off` decodes the prompts as they are: then nothing is trained.
    """

    chain: ChainConfig = field(default_factory=ChainConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    reweighter: Literal["on", "off"] = "on"

    def unread(self) -> dict[str, str]:
        """Return the keys that these settings do not read, with the reason; a group stands for all its keys."""
        prefix, objective, found = self.chain.prefix, self.objective, {}
        if prefix.selector.kind != "threshold":
            found["chain.prefix.selector.tau"] = f"the selector {prefix.selector.kind} has no fixed threshold"
        if not prefix.enhances:
            for key in ("chain.prefix.initial_prompt", "chain.enhance_point_only"):
                found[key] = "it is for feature enhancement, which is off"
        if self.chain.generator != "e4s":
            found["chain.prefix.fresh_noise"] = "it is for generator=e4s"
        draws = prefix.most_prompts is not None or prefix.fresh_noise
        if not draws and not (prefix.enhances and prefix.initial_prompt == "random"):
            found["chain.prefix.seed"] = "nothing is drawn by chance"
        if objective.variant == "released":
            found["objective.alpha"] = "the variant released has no alpha"
        if objective.variant != "paper":
            found["objective.epsilon"] = "it is for the variant paper"
        if not objective.face_penalty or objective.lam == 0.0:
            found["objective.alpha"] = "the face penalty is off"
        if not objective.face_penalty:
            found["objective.lam"] = "the face penalty is off"
        if self.reweighter == "off":
            found |= dict.fromkeys(("head", "training", "objective"), "reweighter is off: nothing is trained")
        return found

    def reads(self, key: str) -> bool:
        """Say whether a dotted key has any effect in these settings."""
        return not any(key == unread or key.startswith(f"{unread}.") for unread in self.unread())


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One trial.

    Attributes:
        settings: what is done; `settings.training.seed` is the seed of the trial.
        train_store: store of the images to train on; none when nothing is trained.
        evaluate_store: store of the images to evaluate on.
        train_images: their ids.
        evaluate_images: their ids.
        evaluate_every: epochs between evaluations; 0 = only after the last.
        gpu: compute on a GPU.
    """

    settings: TrialSettings
    train_store: Path | None
    evaluate_store: Path
    train_images: tuple[str, ...]
    evaluate_images: tuple[str, ...]
    evaluate_every: int = 0
    gpu: bool = False

    def __post_init__(self) -> None:
        """Check that there is something to train and to evaluate on."""
        if not self.evaluate_images:
            raise ValueError("evaluate_images must not be empty")
        if self.settings.reweighter == "on" and (self.train_store is None or not self.train_images):
            raise ValueError("train_store and train_images are needed where reweighter is on")
        if self.evaluate_every < 0:
            raise ValueError(f"evaluate_every must be at least 0, got {self.evaluate_every}")


def read_trial(folder: Path) -> TrialConfig:
    """Read what a trial's folder says of it.

    Raises:
        ConfigError: if it does not, or not completely.
    """
    path = folder / TRIAL
    return parse(TrialConfig, load_yaml(path), where=str(path))


def read_result(folder: Path) -> dict[str, Any] | None:
    """Read how a trial ended; None of one that did not."""
    path = folder / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def attempt_trial(config: TrialConfig, folder: Path, on_epoch: OnEpoch | None = None) -> dict[str, Any]:
    """Run a trial; whatever is wrong with it becomes its result, for the others go on."""
    started = time.monotonic()
    try:
        return run_trial(config, folder, on_epoch)
    except Exception as error:
        return fail_trial(
            folder, f"{type(error).__name__}: {error}", time.monotonic() - started, traceback.format_exc()
        )


def fail_trial(folder: Path, error: str, seconds: float = math.nan, trace: str | None = None) -> dict[str, Any]:
    """Write that a trial failed, and why; running it again is what a later sweep does."""
    return _write_result(folder, {"status": FAILED, "error": error, "traceback": trace, "seconds": seconds})


def run_trial(config: TrialConfig, folder: Path, on_epoch: OnEpoch | None = None) -> dict[str, Any]:
    """Train and evaluate; returns what `result.json` holds.

    Args:
        config: the trial.
        folder: where its files go; what an earlier attempt left there is removed.
        on_epoch: called after every epoch with its row of the history; with `evaluate_every`, `finish_trial` is all
            that is missing then.

    Raises:
        StoreError: if a store is missing, or made by other weights.
        FloatingPointError: if training diverged.
    """
    torch.set_num_threads(1)
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_text(folder / TRIAL, yaml12.dump(to_mapping(config)))
    evaluated = PromptStore(config.evaluate_store)
    sam = evaluated.load_sam("cuda" if config.gpu else "cpu")
    if config.settings.reweighter == "on":
        _Training(config, folder, evaluated, sam, on_epoch).run()
    else:
        _evaluate(config, folder, evaluated, sam, None)
    return finish_trial(folder, time.monotonic() - started)


def finish_trial(folder: Path, seconds: float) -> dict[str, Any]:
    """Write the result of a trial whose evaluation is there: of its last epoch, be it the last that was planned."""
    table, history = pd.read_parquet(folder / TABLE), read_history(folder)
    result: dict[str, Any] = {"status": "ok", "error": None, "traceback": None, "seconds": seconds}
    result |= {"epochs": len(history), "images": len(table)} | mean_numbers(table)
    result["objective"] = history[-1]["total"] if history else math.nan
    return _write_result(folder, result)


def mean_numbers(table: pd.DataFrame) -> dict[str, float]:
    """Average a per-image table: occluded images, and the marked area of those without an occluder."""
    clean = table[table["truth_pixels"] == 0]
    numbers = {name: float(table[name].mean()) for name in OCCLUDED_METRICS}
    prompts = {name: float(table[name].mean()) for name in ("occlusion_prompt_count", "face_prompt_count")}
    return numbers | prompts | {"clean_false_positive_area": float(clean["false_positive_area"].mean())}


def learned_numbers(epoch: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of an epoch that a repetition must give again."""
    return {name: value for name, value in epoch.items() if name not in _PACE}


@dataclass(frozen=True)
class _Training:
    """The training of one trial."""

    config: TrialConfig
    folder: Path
    evaluated: PromptStore
    sam: PromptableSam
    on_epoch: OnEpoch | None

    def run(self) -> None:
        settings = self.config.settings
        assert self.config.train_store is not None
        store = PromptStore(self.config.train_store)
        store.check_made_by(settings.chain)
        records = store.records(set(self.config.train_images))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.training.seed)
            reweighter = PromptReweighter(settings.head.build(self.sam.embed_dim)).to(self.sam.device)

        def after_epoch(report: EpochReport, state: dict[str, Any]) -> None:
            self._keep(report, reweighter)

        train_head(reweighter, self.sam, records, settings.training, settings.objective, on_epoch=after_epoch)

    def _keep(self, report: EpochReport, reweighter: PromptReweighter) -> None:
        row: dict[str, float] = asdict(report)
        every, last = self.config.evaluate_every, report.epoch == self.config.settings.training.epochs - 1
        if last or (every and (report.epoch + 1) % every == 0):
            reweighter.eval()
            row["iou_face_mask"] = _evaluate(self.config, self.folder, self.evaluated, self.sam, reweighter)
            metadata = {"epoch": str(report.epoch)}
            save_head(reweighter, self.folder / HEAD_FILE, self.config.settings.chain, metadata)
        history = [*read_history(self.folder), row]
        write_text(self.folder / HISTORY, "".join(f"{json.dumps(epoch)}\n" for epoch in history))
        if self.on_epoch is not None:
            self.on_epoch(row)


def _evaluate(
    config: TrialConfig, folder: Path, store: PromptStore, sam: PromptableSam, reweighter: PromptReweighter | None
) -> float:
    """Evaluate and write the table; returns the mean IoU."""
    store.check_made_by(config.settings.chain)
    table = evaluate_store(store, sam, reweighter, ids=config.evaluate_images)
    part = folder / f".{TABLE}.part"
    table.to_parquet(part)
    part.rename(folder / TABLE)
    return float(table["iou_face_mask"].mean())


def _write_result(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    # JSON knows no NaN.
    plain = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in result.items()}
    write_text(folder / RESULT, json.dumps(plain, indent=2) + "\n")
    return plain


def with_seed(settings: TrialSettings, seed: int) -> TrialSettings:
    """Return settings with the seed of a trial."""
    return replace(settings, training=replace(settings.training, seed=seed))
