"""One method measured on one store: a head on our prompts, masks of anyone, a baseline, a rung, or a ready result."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.results import read_evaluation
from ray_jobs.job_cli import absolute
from s3pot.baselines.methods import DECODES_PROMPTS, BaselineName, BaselineParts, baseline_predictor
from s3pot.chain import load_prefix
from s3pot.config import ConfigError
from s3pot.embedded import file_hash, weights_path
from s3pot.evaluation import UNKNOWN_KIND, Mask, Predict, evaluate_with, head_predictor, per_image_table
from s3pot.head.head_file import load_reweighter
from s3pot.ladder import Rung, climb, read_ladder_images
from s3pot.predictions import FullFace, MissingPolicy, evaluate_predictions, read_predictions
from s3pot.predictions.full_face import REGION, STORED
from s3pot.sam.promptable import PromptableSam
from s3pot.store.prompt_store import PromptStore

_log = logging.getLogger("s3pot.evaluate")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What predicts: a head on our prompts, unless one of `masks`, `baseline`, `rung` and `result` is given.

    Attributes:
        head: a trained head's file, `embedded` for the shipped one, or `none` for the prompts as they are; also of the
            baselines and rungs that decode prompts.
        masks: predictions of another method: a folder of `<id>.png` (original frame, 255 = occluded), or a .yaml, .csv
            or .parquet that says what its files hold (docs/adapters.md).
        method: which method's rows of a table that holds several.
        missing: what an image without a prediction is: a failed row, nothing predicted, or no part of the means.
        full_face: of masks that segment the face: `stored` = the completed parsing, `region` = the true face region R,
            or a folder of `<id>.png`.
        baseline: a method in the box (s3pot/baselines/methods.py).
        weights: file of the supervised network, for baseline=supervised alone.
        rung: a rung of the oracle ladder that runs the chain anew, on composites at the working size.
        result: folder of a result that is there, such as a per-image overfitting run on the same images.
        clean: in a table of methods, the masks or the result of this method for the store of clean faces.
    """

    head: str = "embedded"
    masks: Path | None = None
    method: str | None = None
    missing: MissingPolicy = "error"
    full_face: str = STORED
    baseline: BaselineName | None = None
    weights: Path | None = None
    rung: Rung | None = None
    result: Path | None = None
    clean: Path | None = None

    def __post_init__(self) -> None:
        """Check that one thing predicts."""
        kinds = ("masks", "baseline", "rung", "result")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} both predict: give one of {', '.join(kinds)}")
        if (self.baseline == "supervised") != (self.weights is not None):
            raise ValueError(
                "weights and baseline=supervised belong together: `ray_jobs/pretrain.py supervised` makes it"
            )
        if self.masks is None and (self.method is not None or self.missing != "error" or self.full_face != STORED):
            raise ValueError("method, missing and full_face are for masks: say masks=FOLDER or masks=TABLE")

    def for_clean_faces(self) -> "MethodConfig | None":
        """Return the same method for the store of clean faces; None when it says nothing about them."""
        if self.masks is None and self.result is None:
            return self
        if self.clean is None:
            return None
        return replace(self, **{"masks" if self.result is None else "result": self.clean})

    def with_absolute_paths(self) -> "MethodConfig":
        """Make every path absolute."""
        values = {name: getattr(self, name) for name in MethodConfig.__dataclass_fields__}
        changed = {name: absolute(value) for name, value in values.items() if isinstance(value, Path)}
        if self.full_face not in (STORED, REGION):
            changed["full_face"] = str(absolute(Path(self.full_face)))  # type: ignore[assignment]
        return MethodConfig(**(values | changed))


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What was measured.

    Attributes:
        table: one row per image, as `s3pot.evaluation.evaluate_store` makes it.
        facts: what else a reader must know: seconds per image, where full faces came from, what was missing.
    """

    table: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)


class OpenStore:
    """A store with its SAM, which is loaded once and only when something needs it."""

    def __init__(self, root: Path) -> None:
        self.store = PromptStore(root)

    @cached_property
    def sam(self) -> PromptableSam:
        """The SAM of the store, frozen."""
        return self.store.load_sam()

    @cached_property
    def identity(self) -> str:
        """Hash of what the store holds: its chain and its images."""
        rows = self.store.rows(["key"])
        held = [self.store.description["identity"], *rows["id"], *rows["key"].fillna("").astype(str)]
        return hashlib.sha256("\n".join(held).encode()).hexdigest()[:16]


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


def head_hash(config: MethodConfig) -> str:
    """Return the hash of the head that a method uses, `none` without one."""
    uses_head = config.masks is None and config.result is None
    uses_head = uses_head and (config.baseline is None or config.baseline in DECODES_PROMPTS)
    path = head_file(config.head) if uses_head else None
    return file_hash(path) if path else "none"


def measure_method(
    config: MethodConfig, opened: OpenStore, *, seed: int = 0, on_mask: Callable[[str, Mask], None] | None = None
) -> Measured:
    """Measure a method on every image of a store.

    Args:
        config: the method; paths are absolute.
        opened: the store.
        seed: of random prompts.
        on_mask: called with id and predicted occlusion, original frame; not for rungs and results.

    Raises:
        ConfigError: if masks cannot be used, or a result is on other images.
        FileNotFoundError: if a file is missing.
        ValueError: if a rung cannot be climbed on these images.
    """
    store = opened.store
    if config.masks is not None:
        return _measure_masks(config, store, on_mask)
    if config.result is not None:
        return Measured(table=_read_result(config.result, store), facts={"result": str(config.result)})
    head = head_file(config.head)
    if config.rung is not None:
        return _measure_rung(config.rung, head, store, seed)
    decodes = config.baseline is None or config.baseline in DECODES_PROMPTS
    reweighter = None
    if head is not None and decodes:
        reweighter = load_reweighter(head, opened.sam.device, chain=store.chain)
    if config.baseline is None:
        predict, grid = head_predictor(store, opened.sam, reweighter), opened.sam.token_grid
    else:
        parts = BaselineParts(sam=opened.sam, reweighter=reweighter, supervised_weights=config.weights, seed=seed)
        predict, grid = baseline_predictor(config.baseline, store, parts), None
    timed = _Timed(predict)
    table = evaluate_with(store, timed, on_mask=on_mask, token_grid=grid)
    return Measured(table=table, facts={"seconds_per_image": timed.seconds / max(1, timed.images)})


class _Timed:
    """Predicts and notes how long that takes: reading tokens, references and pictures included, measuring not."""

    def __init__(self, predict: Predict) -> None:
        self.predict, self.seconds, self.images = predict, 0.0, 0

    def __call__(self, rows: Sequence[Any]) -> Mapping[str, Any]:
        started = time.perf_counter()
        predicted = self.predict(rows)
        self.seconds += time.perf_counter() - started
        self.images += len(rows)
        return predicted


def _measure_masks(config: MethodConfig, store: PromptStore, on_mask: Callable[[str, Mask], None] | None) -> Measured:
    assert config.masks is not None
    predictions = read_predictions(config.masks, store.rows(["status"])["id"].tolist(), config.method)
    if predictions.unknown:
        _log.warning(
            "%d predictions of %s are for no image of the store, such as %s",
            len(predictions.unknown),
            config.masks,
            predictions.unknown[0],
        )
    full_face = FullFace(source=config.full_face)
    table = evaluate_predictions(store, predictions, missing=config.missing, full_face=full_face, on_mask=on_mask)
    targets = sorted({prediction.target for prediction in predictions.by_id.values()})
    facts = {"target": "+".join(targets), "missing_policy": config.missing, "unknown": len(predictions.unknown)}
    if targets != ["occlusion"]:
        facts["full_face"] = config.full_face
    return Measured(table=table, facts=facts)


def _measure_rung(rung: Rung, head: Path | None, store: PromptStore, seed: int) -> Measured:
    store.check_made_by(store.chain)
    prefix = load_prefix(store.chain)
    rows = store.rows()
    images = read_ladder_images(rows, prefix.size)
    reweighter = None if head is None else load_reweighter(head, prefix.sam.device, chain=store.chain)
    started = time.perf_counter()
    climbed = climb(images, prefix, {"head": reweighter}, [rung], seed=seed)
    seconds = (time.perf_counter() - started) / max(1, len(images))
    # The chain runs anew: its time is that of the whole chain, and of the measuring.
    table = climbed.merge(rows[["id", "path", "error"]], on="id", how="left").sort_values("id", ignore_index=True)
    return Measured(table=per_image_table(table.to_dict("records")), facts={"seconds_per_image_with_chain": seconds})


def _read_result(folder: Path, store: PromptStore) -> pd.DataFrame:
    images = read_evaluation(folder.name, folder).images
    ours = set(store.rows(["status"])["id"])
    if set(images.index) != ours:
        odd = sorted(set(images.index) ^ ours)
        problem = f"is on other images than {store.root}: {len(odd)} are in one alone, such as {odd[0]!r}"
        raise ConfigError(str(folder), [problem])
    rows = images.reset_index(drop=True).assign(path=None)
    rows["kind"] = rows["kind"].fillna(UNKNOWN_KIND)
    rows["face_id"] = rows["face_id"].fillna(rows["id"])
    return per_image_table(rows.to_dict("records"))
