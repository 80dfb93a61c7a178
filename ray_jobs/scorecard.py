"""Measure every embedded model and the chain, and print the whole table of targets.

    python ray_jobs/scorecard.py manifest=runs/data/val/manifest.parquet
        clean=runs/data/val-clean/manifest.parquet natural=../shared/data/natural/val
        faces=../shared/data/celebamask/train real_dev=runs/evaluate/real_dev overfit=runs/overfit/val

What was not given stands in the table as not measured.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import typer
from torch import nn

from ray_jobs.evaluate import head_file
from ray_jobs.job_cli import job_command, run_alone, with_absolute_paths
from ray_jobs.run_folder import identity, open_run, write_text
from ray_jobs.tracking import tracked_run
from s3pot.chain import ChainConfig, chain_identity, load_prefix
from s3pot.config import to_mapping
from s3pot.embedded import embedded_folder, file_hash
from s3pot.head.head_file import load_reweighter, read_abstention_threshold
from s3pot.images import read_image
from s3pot.ladder import LadderImage, climb, read_ladder_images
from s3pot.prefix import FrozenPrefix
from s3pot.pretrain.faces import list_faces, load_faces
from s3pot.pretrain.material import read_excluded
from s3pot.pretrain.sam_training import NaturalBank, load_natural
from s3pot.scorecard.chain import (
    RUNGS,
    estimate_chain,
    estimate_clean_faces,
    estimate_evaluation,
    measure_chain_ceilings,
    measure_clean_faces,
    read_evaluation,
)
from s3pot.scorecard.cost import estimate_seconds, estimate_size
from s3pot.scorecard.generator import mean_face
from s3pot.scorecard.measure import Findings, Material, find_generator, find_nano_sam, find_parser
from s3pot.scorecard.table import Row, assemble, to_dicts, to_markdown

_log = logging.getLogger("s3pot.scorecard")
# Images of the ladder between two lines of progress.
_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class ScorecardConfig:
    """What is measured, and on what.

    Attributes:
        manifest: composites made by `data`, at the working size.
        clean: manifest of faces without occluder, decoys too, at the working size; none = not measured.
        natural: folder of natural photographs, images/ and segments/; none = not measured.
        real_dev: per-image table, or folder, of an `evaluate` run on real_dev; none = not measured.
        overfit: per-image table, or folder, of an `overfit` run on the composites; none = not measured.
        faces: folder of training faces, images/ and labels/; fold `prefix` gives the mean face; none = not compared.
        exclude: text file of face ids that are no clean bases.
        head: a trained head's file, `embedded`, or `none` for prompts as they are.
        chain: models and frozen stages.
        abstain_threshold: score below which nothing is marked; none = what the head's file says, or never.
        timing_repeats: timed runs of the frozen prefix per batch size; 0 = not measured.
        limit: at most this many composites, clean faces, photographs and faces each; 0 = all.
        seed: of points and intervals.
        name: run name; none = name of the data and identity hash.
        runs: folder of all runs and the MLflow database.
    """

    manifest: Path
    clean: Path | None = None
    natural: Path | None = None
    real_dev: Path | None = None
    overfit: Path | None = None
    faces: Path | None = None
    exclude: Path = Path("experiments/excluded_faces.txt")
    head: str = "embedded"
    chain: ChainConfig = field(default_factory=lambda: ChainConfig(alignment="none"))
    abstain_threshold: float | None = None
    timing_repeats: int = 10
    limit: int = 0
    seed: int = 0
    name: str | None = None
    runs: Path = Path("runs")

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in ("limit", "timing_repeats"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} must be at least 0, got {getattr(self, key)}")
        if self.abstain_threshold is not None and not 0.0 <= self.abstain_threshold <= 1.0:
            raise ValueError(f"abstain_threshold must lie in [0, 1], got {self.abstain_threshold}")


def scorecard(config: ScorecardConfig) -> list[Row]:
    """Measure, print and store everything; returns the rows of the table."""
    config = with_absolute_paths(config)
    head = head_file(config.head)
    head_hash = "none" if head is None else file_hash(head)
    name = config.name or f"{config.manifest.parent.name}-{identity(config, chain_identity(config.chain), head_hash)}"
    folder = open_run(config.runs, "scorecard", name, config)
    with tracked_run("scorecard", name, to_mapping(config) | {"head_hash": head_hash}, config.runs) as tracked:
        findings = measure(config)
        rows = assemble(findings.estimates)
        text = to_markdown(rows)
        for table_name, table in findings.tables.items():
            table.to_parquet(folder / f"{table_name}.parquet", index=False)
        write_text(folder / "scorecard.json", json.dumps(to_dicts(rows), indent=2) + "\n")
        write_text(folder / "scorecard.md", text)
        for path in sorted(folder.glob("scorecard.*")) + [folder / f"{key}.parquet" for key in findings.tables]:
            tracked.log_artifact(path)
        means = {key.replace("+", "_"): found.mean for key, found in findings.estimates.items()}
        tracked.log_metrics({key: value for key, value in means.items() if math.isfinite(value)})
    typer.echo(text)
    typer.echo(f"({folder})")
    return rows


def measure(config: ScorecardConfig) -> Findings:
    """Measure all that the configuration gives material for, one part after the other."""
    # First what only has to be read: a wrong path should not come out after minutes of measuring.
    evaluations = {
        key: read_evaluation(path) for key, path in (("overfit", config.overfit), ("real_dev", config.real_dev)) if path
    }
    clean = None if config.clean is None else pd.read_parquet(config.clean)[: config.limit or None]
    prefix = load_prefix(config.chain)
    material = _material(config, prefix.size)
    _log.info("%d composites", len(material.composites))
    findings = Findings()
    _log.info("size and speed")
    findings.add(_cost(material.composites, prefix, config.timing_repeats))
    _log.info("nano SAM")
    findings.add(find_nano_sam(material, prefix.sam, config.seed))
    _log.info("face parser")
    findings.add(find_parser(material, prefix.parser, config.seed))
    head = head_file(config.head)
    reweighter = None if head is None else load_reweighter(head, prefix.sam.device, chain=config.chain)
    heads: dict[str, nn.Module | None] = {"none": None}
    if reweighter is not None:
        heads["reweighter"] = reweighter
    ladder = _climb(material.composites, prefix, heads, config.seed)
    findings.tables["ladder"] = ladder
    _log.info("reference generator")
    findings.add(find_generator(material, prefix, ladder[ladder["head"] == "none"], config.seed))
    findings.add(_chain(material, prefix, reweighter, ladder, evaluations, config.seed))
    if clean is not None:
        _log.info("faces without occluder")
        table = measure_clean_faces([read_image(path) for path in clean["path"]], clean, prefix, reweighter)
        estimates = estimate_clean_faces(table, _threshold(config), config.seed)
        findings.add(Findings(tables={"clean_faces": table}, estimates=estimates))
    return findings


def _material(config: ScorecardConfig, size: int) -> Material:
    most = config.limit or None
    manifest = pd.read_parquet(config.manifest)[:most]
    natural = None
    if config.natural is not None:
        loaded = load_natural(config.natural)
        natural = NaturalBank(images=loaded.images[:most], segments=loaded.segments[:most])
    mean = None
    if config.faces is not None:
        ids = list_faces(config.faces, "prefix", read_excluded(config.exclude))[:most]
        mean = mean_face(load_faces(config.faces, ids, size).images)
        _log.info("mean of %d faces", len(ids))
    return Material(composites=read_ladder_images(manifest, size), natural=natural, mean_face=mean)


def _cost(images: Sequence[LadderImage], prefix: FrozenPrefix, repeats: int) -> Findings:
    files = sorted(embedded_folder().glob("*.safetensors"))
    seconds = estimate_seconds(images, prefix, repeats=repeats) if repeats else {}
    return Findings(estimates=estimate_size(files) | seconds)


def _climb(
    images: Sequence[LadderImage], prefix: FrozenPrefix, heads: dict[str, nn.Module | None], seed: int
) -> pd.DataFrame:
    tables = []
    for first in range(0, len(images), _AT_ONCE):
        _log.info("chain and oracles: %d of %d composites", first, len(images))
        tables.append(climb(images[first : first + _AT_ONCE], prefix, heads, RUNGS, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _chain(
    material: Material,
    prefix: FrozenPrefix,
    reweighter: nn.Module | None,
    ladder: pd.DataFrame,
    evaluations: Mapping[str, pd.DataFrame],
    seed: int,
) -> Findings:
    ceilings = measure_chain_ceilings(material.composites, prefix.sam)
    head = "none" if reweighter is None else "reweighter"
    findings = Findings(tables={"chain_ceilings": ceilings})
    findings.estimates.update(estimate_chain(ladder, ceilings, head, seed))
    if "overfit" in evaluations:
        findings.estimates.update(estimate_evaluation(evaluations["overfit"], "chain/overfit", seed, ceilings))
    if "real_dev" in evaluations:
        found = estimate_evaluation(evaluations["real_dev"], "chain/real_dev", seed)
        # Thirty photographs of many kinds: the mean over all of them is the number.
        findings.estimates.update({key: value for key, value in found.items() if key == "chain/real_dev_all"})
    return findings


def _threshold(config: ScorecardConfig) -> float:
    if config.abstain_threshold is not None:
        return config.abstain_threshold
    head = head_file(config.head)
    return -math.inf if head is None else read_abstention_threshold(head)


command = job_command(ScorecardConfig, scorecard, {"limit": 6, "timing_repeats": 1}, __doc__ or "")

if __name__ == "__main__":
    run_alone(command)
