"""What a sweep varies, as data, and the cells and trials that follow from it.

    base:                               values that stay
      objective: {variant: paper}
    grid:                               every combination of these
      objective.lam: [0.25, 0.5, 1.0]
      reweighter: ["on", "off"]
    cells:                              times each of these sets, for what is no product
      greedy: {}
      threshold 0.5: {chain.prefix.selector.kind: threshold, chain.prefix.selector.tau: 0.5}
    search:                             or samples from ranges, stopped early by ASHA
      space: {training.learning_rate: {low: 1e-5, high: 1e-2, log: true}}

A cell is one combination; its trials are the cell with each seed. All cells are checked before anything starts.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ray_jobs.trial import TrialSettings, with_seed
from s3pot import yaml12
from s3pot.config import ConfigError, parse, to_mapping
from s3pot.metrics.per_image import METRIC_COLUMNS
from s3pot.seeding import generator

_MODELS = ("sam", "parser", "generator")
NAME = "name"
"""Axis of the names of `cells`."""


@dataclass(frozen=True, kw_only=True)
class SearchRange:
    """A continuous axis.

    Attributes:
        low: smallest value.
        high: largest value.
        log: draw evenly in the logarithm; needs low above 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Check that it is a range."""
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0.0:
            raise ValueError(f"low must be above 0 where log is true, got {self.low}")

    def value(self, share: float) -> float:
        """Return the value at a share in [0, 1] of the way, to four digits: what is printed is what was run."""
        if self.log:
            return float(f"{self.low * (self.high / self.low) ** share:.4g}")
        return float(f"{self.low + share * (self.high - self.low):.4g}")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A search over continuous axes; its first sample is the base itself.

    Attributes:
        space: range of every axis, by dotted key.
        samples: how many combinations are drawn.
        seed: of the draw.
        grace_epochs: epochs that every trial gets before ASHA may stop it.
        reduction: ASHA lets one trial in so many go on.
    """

    space: dict[str, SearchRange]
    samples: int = 16
    seed: int = 0
    grace_epochs: int = 1
    reduction: int = 2

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.space:
            raise ValueError("space must name an axis")
        for key, least in (("samples", 1), ("grace_epochs", 1), ("reduction", 2)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} must be at least {least}, got {getattr(self, key)}")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """An experiment over several settings.

    Attributes:
        title: what it shows, for tables and reports.
        data: folder with a folder of composites per set, each with a manifest.parquet, as `s3pot data composite` makes
            them.
        train_on: set to train on.
        evaluate_on: set to evaluate on; every choice is made on `dev`.
        train_images: train on so many images, drawn by a hash of their ids; 0 = all.
        evaluate_images: evaluate on so many, likewise; 0 = all.
        stores: folder of the stores that sweeps make and share.
        base: values that stay.
        grid: lists of values by dotted key of `base`; every combination is a cell.
        cells: named sets of values by dotted key, for combinations that are no product; times the grid.
        search: ranges to draw from, in place of grid and cells.
        seeds: each cell is trained with each; a cell that trains nothing runs once.
        compare_to: values of axes (or `name`) that one cell alone has: the others are paired with it; empty = the
            first.
        metric: column of the per-image tables that is averaged and compared.
        concurrent: trials at once; 0 = one per CPU core, or as many as fit the GPUs.
        gpus_per_trial: share of a GPU per trial; 0 = CPU.
        most_cells: only the compared cell and the first others; 0 = all.
        name: run name; None = from the title and what is run.
        runs: folder of all runs and the MLflow database.
    """

    title: str
    data: Path = Path("runs/data")
    train_on: str = "head"
    evaluate_on: Literal["dev", "val"] = "dev"
    train_images: int = 0
    evaluate_images: int = 0
    stores: Path = Path("runs/stores/sweeps")
    base: TrialSettings = field(default_factory=TrialSettings)
    grid: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    search: SearchConfig | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    compare_to: dict[str, Any] = field(default_factory=dict)
    metric: str = "iou_face_mask"
    concurrent: int = 0
    gpus_per_trial: float = 0.0
    most_cells: int = 0
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check all but the cells, whose problems `plan_cells` reports together."""
        for key in ("train_images", "evaluate_images", "concurrent", "most_cells"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} must be at least 0, got {getattr(self, key)}")
        if not 0.0 <= self.gpus_per_trial <= 1.0:
            raise ValueError(f"gpus_per_trial must lie in [0, 1], got {self.gpus_per_trial}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one; got {list(self.seeds)}")
        if self.metric not in METRIC_COLUMNS:
            raise ValueError(f"metric must be one of {', '.join(METRIC_COLUMNS)}; got {self.metric!r}")
        if self.search is not None and (self.grid or self.cells):
            raise ValueError("search takes the place of grid and cells: remove one or the other")
        if self.search is not None and self.base.reweighter == "off":
            raise ValueError("search needs something that is trained: base.reweighter is off")
        if self.search is not None and self.evaluate_on == "val":
            raise ValueError("search chooses by what it evaluates on: that is dev, never val")
        if self.train_on == self.evaluate_on:
            raise ValueError(f"train_on and evaluate_on must be different sets, got {self.train_on} for both")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One setting.

    Attributes:
        id: 10 hex digits of what is set.
        name: of a named cell; None without names.
        label: what a reader calls it.
        values: by axis; None where the settings do not read it.
        settings: all of it, without a seed.
    """

    id: str
    name: str | None
    label: str
    values: dict[str, Any]
    settings: TrialSettings

    def seeds(self, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Return the seeds it is run with: one where nothing is trained."""
        return seeds if self.settings.reweighter == "on" else seeds[:1]


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """All cells, in the order of the grid.

    Attributes:
        axes: dotted keys, in order.
        cells: the cells.
        base: id of the cell that the others are compared with.
    """

    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    base: str

    def trials(self, seeds: tuple[int, ...]) -> Iterator[tuple[Cell, int, TrialSettings]]:
        """Yield cell, seed and settings of every trial."""
        for cell in self.cells:
            for seed in cell.seeds(seeds):
                yield cell, seed, with_seed(cell.settings, seed)


def plan_cells(config: SweepConfig) -> CellPlan:
    """Return the cells of a sweep.

    Raises:
        ConfigError: naming every problem of every cell: unknown keys, values out of range, axes that a cell does not
            read, cells that are the same.
    """
    problems: list[str] = []
    grid = _lists(config.grid, problems)
    named: dict[str | None, dict[str, Any]] = {name: _flat(values) for name, values in config.cells.items()} or {
        None: {}
    }
    if config.search is not None:
        combinations = [(None, values) for values in _samples(config.search, config.base)]
    else:
        products = itertools.product(*grid.values())
        combinations = [
            (name, dict(zip(grid, values, strict=True)) | changes)
            for values in products
            for name, changes in named.items()
        ]
    axes = tuple(dict.fromkeys(key for _, values in combinations for key in values))
    problems += [f"{key}: {problem}" for key in axes if (problem := _problem_of_axis(key))]
    found = [_cell(config, name, values, axes, problems) for name, values in combinations] if not problems else []
    cells = [cell for cell in found if cell is not None]
    _check_different(cells, problems)
    if problems:
        raise ConfigError(f"sweep {config.title!r}", list(dict.fromkeys(problems)))
    base = _base(config, cells)
    if config.most_cells:
        kept = [base, *(cell for cell in cells if cell is not base)][: config.most_cells]
        cells = [cell for cell in cells if cell in kept]
    return CellPlan(axes=axes, cells=tuple(cells), base=base.id)


def _lists(grid: Mapping[str, Any], problems: list[str]) -> dict[str, list[Any]]:
    """Return the values of every axis of the grid, in order."""
    lists = {}
    for key, values in _flat(grid).items():
        if not isinstance(values, list | tuple) or not values:
            problems.append(f"grid.{key}: expected a list of values, got {values!r}")
        elif len({json.dumps(value, default=str) for value in values}) < len(values):
            problems.append(f"grid.{key}: the same value twice in {list(values)}")
        else:
            lists[key] = list(values)
    return lists


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted keys of a mapping that has them already, or is nested as overrides make it."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _problem_of_axis(key: str) -> str | None:
    if key == "training.seed":
        return "seeds are no axis: list them under seeds"
    if key in {f"chain.{part}" for part in _MODELS}:
        # Defaults of the chain follow from its models, and `base` has settled them for those it names.
        return "models are no axis: make one sweep per model, with base.chain"
    return None


def _samples(search: SearchConfig, base: TrialSettings) -> list[dict[str, Any]]:
    """Draw the cells of a search; sample 0 is the base."""
    plain = to_mapping(base)
    first = {key: _get(plain, key) for key in search.space}
    rest = []
    for number in range(1, search.samples):
        shares = generator(search.seed, "sweep/search", str(number)).random(len(search.space))
        rest.append({key: space.value(share) for (key, space), share in zip(search.space.items(), shares, strict=True)})
    return [first, *rest]


def _cell(
    config: SweepConfig, name: str | None, values: dict[str, Any], axes: tuple[str, ...], problems: list[str]
) -> Cell | None:
    """Make one cell, or note what is wrong with it."""
    inside = _flat(config.cells.get(name or "", {}))
    varied = {key.rpartition(".")[2]: value for key, value in values.items() if key not in inside}
    shown = [f"{key}={yaml12.dump(value, inline=True)}" for key, value in varied.items()]
    label = ", ".join([*([name] if name else []), *shown]) or "base"
    where = f"cell {label!r}"
    mapping = to_mapping(config.base)
    for key, value in values.items():
        _set(mapping, key, value)
    try:
        settings = parse(TrialSettings, mapping, where=where)
    except ConfigError as error:
        problems += error.problems
        return None
    unread = [key for key in values if not settings.reads(key)]
    if unread:
        reasons = settings.unread()
        reason = next(text for key, text in reasons.items() if unread[0] == key or unread[0].startswith(f"{key}."))
        problems.append(f"{where}: {unread[0]} has no effect there: {reason}; name such combinations under cells")
        return None
    plain = to_mapping(settings)
    read = {key: _get(plain, key) if settings.reads(key) else None for key in axes}
    return Cell(id=_hash(plain), name=name, label=label, values=read, settings=settings)


def _check_different(cells: list[Cell], problems: list[str]) -> None:
    known: dict[str, Cell] = {}
    for cell in cells:
        if cell.id in known:
            problems.append(f"the cells {known[cell.id].label!r} and {cell.label!r} are the same")
        known[cell.id] = cell


def _base(config: SweepConfig, cells: list[Cell]) -> Cell:
    wanted = _flat(config.compare_to)
    unknown = set(wanted) - {NAME, *(key for cell in cells for key in cell.values)}
    if unknown:
        raise ConfigError("compare_to", [f"{key}: no axis of this sweep" for key in sorted(unknown)])
    found = [cell for cell in cells if all(wanted[key] == (cell.values | {NAME: cell.name})[key] for key in wanted)]
    if not found or (wanted and len(found) > 1):
        names = "; ".join(cell.label for cell in found or cells)
        raise ConfigError("compare_to", [f"{len(found)} cells have {wanted}, name one alone of: {names}"])
    return found[0]


def _set(mapping: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; what does not exist is for `parse` to name."""
    *groups, last = key.split(".")
    for group in groups:
        inner = mapping.get(group)
        if not isinstance(inner, dict):
            inner = mapping[group] = {}
        mapping = inner
    mapping[last] = value


def _get(mapping: Mapping[str, Any], key: str) -> Any:
    value: Any = mapping
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _hash(mapping: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(mapping, sort_keys=True, default=str).encode()).hexdigest()[:10]
