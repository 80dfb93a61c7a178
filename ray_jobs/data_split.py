"""Split pictures by a rule that gives the same on every machine, and check that none leaks from one split to another.

    s3pot data split manifests=[ffhq/manifest.parquet,celeba/manifest.parquet] rule=paper out=runs/data/paper
    s3pot data split manifests=[photos/manifest.parquet] shares.train=0.8 shares.val=0.2 by=identity out=runs/data/p
    s3pot data split manifests=[photos/manifest.parquet] rule=counts counts.val=200 rest=train out=runs/data/photos
    s3pot data split manifests=[mine/manifest.parquet] rule=keep out=runs/data/check   # checks only

Writes <out>/manifest.parquet, all manifests as one with the column `split`, and <out>/near_duplicates.csv: pairs of
pictures that are almost the same (256-bit perceptual hash) in different splits. With any such pair the exit code is 1;
near_duplicates=join keeps them together instead.
"""

import csv
import io
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ray_jobs.data_threads import each
from ray_jobs.job_cli import PartlyFailed, absolute, job_command, run_alone
from ray_jobs.run_folder import write_text
from s3pot.config import ConfigError
from s3pot.data.manifest import ManifestError, join_manifests, write_manifest
from s3pot.data.near_duplicates import BITS, DISTANCE, near_pairs, perceptual_hash
from s3pot.data.split import SplitRule, assign

_log = logging.getLogger("s3pot.data")
_REPORT = "near_duplicates.csv"


@dataclass(frozen=True, kw_only=True)
class SplitConfig(SplitRule):
    """What is split, and how.

    Attributes:
        manifests: Parquet files of `s3pot data import` or alike; they become one.
        out: folder that is written.
        rule: `shares` and `counts` take the keys of these names; `paper`: of FFHQ 104 val, the rest train, of CelebA 96
            val, the rest test; `keep` leaves the splits of the manifests, to check them.
        shares: share of the groups per split; they must sum to 1. shares.train=0.8 shares.val=0.2
        counts: pictures per split; `rest` takes all others. counts.val=200 rest=train
        rest: see counts.
        by: column whose values stay together, such as identity; a picture without a value is a group of its own.
        seed: of the hash that says which group goes where.
        near_duplicates: `list` pairs across splits and fail, `join` keeps near-duplicates in one split, `off` reads no
            picture.
        distance: bits of 256 that near-duplicates may differ in; copies stay within 30, different faces differ in 58.
        workers: threads; 0 = one per core.
    """

    manifests: tuple[Path, ...]
    out: Path
    near_duplicates: Literal["list", "join", "off"] = "list"
    distance: int = DISTANCE
    workers: int = 0

    def __post_init__(self) -> None:
        """Check what is asked for."""
        super().__post_init__()
        if not self.manifests:
            raise ValueError("manifests must name at least one file")
        if not 0 <= self.distance < BITS:
            raise ValueError(f"distance must be in 0..{BITS - 1}, got {self.distance}")
        if self.rule == "keep" and self.near_duplicates == "join":
            raise ValueError("near_duplicates: join moves pictures, rule=keep does not")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")


def split_data(config: SplitConfig) -> pd.DataFrame:
    """Write the split manifest and the pairs that leak; returns the manifest.

    Raises:
        ConfigError: if a manifest or the rule cannot be used.
        PartlyFailed: if near-duplicates lie in different splits, or pictures could not be read for the check.
    """
    manifest = _joined(config)
    unread: list[str] = []
    pairs, distances = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64)
    if config.near_duplicates != "off":
        pairs, distances = _near_duplicates(manifest, config, unread)
    together = [(int(one), int(other)) for one, other in pairs] if config.near_duplicates == "join" else []
    manifest["split"] = _assigned(manifest, config, together)
    splits = manifest["split"].to_numpy()
    across = splits[pairs[:, 0]] != splits[pairs[:, 1]]
    _log.info("%s; %d pairs of near-duplicates within a split", counts_text(manifest), int((~across).sum()))
    out = absolute(config.out)
    written = write_manifest(out, manifest.to_dict("records"))
    write_text(out / _REPORT, _report(manifest, pairs[across], distances[across]))
    problems = []
    if across.any():
        one, other = pairs[across][0]
        problems.append(
            f"{int(across.sum())} pairs of near-duplicates lie in different splits, see {out / _REPORT}, first: "
            f"{manifest['id'][one]} ({splits[one]}) and {manifest['id'][other]} ({splits[other]}); "
            "near_duplicates=join keeps them together"
        )
    if unread:
        problems.append(f"{len(unread)} pictures could not be checked, first: {unread[0]}")
    if problems:
        raise PartlyFailed("; ".join(problems))
    return written


def counts_text(manifest: pd.DataFrame) -> str:
    """Say how many pictures every split has, of every source."""
    pairs = Counter(zip(manifest["split"], manifest["source"].fillna("unknown"), strict=True))
    return ", ".join(f"{split}: {count} {source}" for (split, source), count in sorted(pairs.items()))


def _joined(config: SplitConfig) -> pd.DataFrame:
    try:
        return join_manifests([absolute(path) for path in config.manifests])
    except ManifestError as error:
        raise ConfigError("manifests", [str(error)]) from error


def _assigned(manifest: pd.DataFrame, rule: SplitRule, together: list[tuple[int, int]]) -> list[str]:
    try:
        return assign(manifest, rule, together)
    except ValueError as error:
        raise ConfigError("split", [str(error)]) from error


def _near_duplicates(manifest: pd.DataFrame, config: SplitConfig, unread: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Find near-duplicates, as rows of the manifest; pictures that cannot be read are put on the list."""
    hashes, rows = [], []
    paths = [Path(path) for path in manifest["path"]]
    for row, (_, hashed) in enumerate(each(perceptual_hash, paths, "pictures", _log, config.workers)):
        if isinstance(hashed, Exception):
            unread.append(str(hashed))
        else:
            hashes.append(hashed)
            rows.append(row)
    pairs, distances = near_pairs(np.array(hashes, dtype=bool).reshape(-1, BITS), config.distance)
    return np.array(rows, dtype=np.int64)[pairs], distances


def _report(manifest: pd.DataFrame, pairs: np.ndarray, distances: np.ndarray) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "split", "path", "other_id", "other_split", "other_path", "bits"])
    columns = manifest[["id", "split", "path"]].to_numpy()
    for (one, other), distance in zip(pairs, distances, strict=True):
        writer.writerow([*columns[one], *columns[other], int(distance)])
    return text.getvalue()


def plan(config: SplitConfig) -> list[str]:
    """Say how large the splits would be, near-duplicates aside."""
    try:
        manifest = _joined(config)
        manifest["split"] = _assigned(manifest, config, [])
    except ConfigError as error:
        return [str(error)]
    return [counts_text(manifest)]


command = job_command(SplitConfig, split_data, {}, __doc__ or "", plan=plan)

if __name__ == "__main__":
    run_alone(command)
