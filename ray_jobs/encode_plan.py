"""What an encoding run would cost, from a probe of a few of its images: the answer of `--dry-run`."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ray_jobs.encode_inputs import list_inputs
from ray_jobs.job_cli import with_absolute_paths
from s3pot.chain import load_aligner, load_prefix
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError
from s3pot.images import ImageError
from s3pot.places import is_uri
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import encode_images
from s3pot.store.errors import StoreError
from s3pot.store.manifest import append_part
from s3pot.store.remote_store import open_store, store_exists

if TYPE_CHECKING:
    from ray_jobs.encode import EncodeConfig

PROBED = 20
"""Images that are tried."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a few images took.

    Attributes:
        images: how many were tried.
        failed: how many of them failed.
        seconds: per image, without loading the models.
        bytes: in the store, per image.
    """

    images: int
    failed: int
    seconds: float
    bytes: float


def plan_encoding(config: "EncodeConfig") -> list[str]:
    """Say in a few lines what there is to do and what it takes; what stands in the way is a line, not an error."""
    config = with_absolute_paths(config)
    try:
        items = list_inputs(config.input, config.limit)
        done = open_store(config.store).rows(["status"])["id"] if store_exists(config.store) else pd.Series(dtype=str)
        todo = items[~items["id"].map(str).isin(done)]
        lines = [
            f"{len(items):,} images ({size_of(items)} to read), {len(items) - len(todo):,} of them in the store already"
        ]
        return lines + (_cost(len(todo), probe(config, spread(todo)), config) if len(todo) else [])
    except (ImageError, ConfigError, StoreError, WeightsError, OSError) as error:
        return [f"no estimate: {error}"]


def probe(config: "EncodeConfig", items: Sequence[dict[str, Any]]) -> Probe:
    """Encode some images in this process, into a folder that is removed again.

    Raises:
        WeightsError: if models cannot be loaded.
    """
    chain = replace(config.chain, device=config.pool.device)
    prefix, aligner = load_prefix(chain), load_aligner(chain)
    batches = [items[first : first + config.batch_size] for first in range(0, len(items), config.batch_size)]
    back_off, rows, paces = BackOff(config.batch_size), [], []
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            started = time.perf_counter()
            rows += encode_images(
                prefix,
                batch,
                Path(folder),
                aligner,
                faces=chain.faces,
                keep_reference_tokens=config.keep_reference_tokens,
                tokens=config.tokens or "fp16",
                back_off=back_off,
            )
            paces.append((time.perf_counter() - started) / len(batch))
        append_part(Path(folder) / "manifest", rows)
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    # The first batch warms up.
    return Probe(
        images=len(items),
        failed=sum(row["status"] == "failed" for row in rows),
        seconds=float(np.median(paces[1:] or paces)),
        bytes=written / len(items),
    )


def _cost(images: int, probed: Probe, config: "EncodeConfig") -> list[str]:
    device = config.pool.device
    what = f"{device} with {torch.get_num_threads()} threads" if device == "cpu" else device
    failed = f", {probed.failed} failed" if probed.failed else ""
    return [
        f"{images:,} to encode: {readable_size(images * probed.bytes)} in the store "
        f"({readable_size(probed.bytes)} per image), {-(-images // config.batch_size):,} shards",
        f"about {images * probed.seconds / 3600:.3g} device-hours on {what} "
        f"(probe of {probed.images} images{failed}: {probed.seconds:.3g} s each)",
    ]


def spread(todo: pd.DataFrame) -> list[dict[str, Any]]:
    """Take images from all over the listing: those of one folder are alike."""
    places = np.unique(np.linspace(0, len(todo) - 1, PROBED).astype(int))
    rows: list[dict[str, Any]] = todo.iloc[places].to_dict("records")
    return rows


def size_of(items: pd.DataFrame) -> str:
    """Say how many bytes the files of items are, as far as that is known without asking far away."""
    if "bytes" in items:
        return readable_size(items["bytes"].sum())
    local = [path for path in items["path"] if not is_uri(path) and os.path.isfile(path)]
    size = readable_size(sum(os.path.getsize(path) for path in local))
    return size if len(local) == len(items) else f"{size} of {len(local):,} files that are here"


def readable_size(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
