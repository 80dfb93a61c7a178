"""What the embedded models cost: bytes in the package, seconds per picture on this machine."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from s3pot.ladder import LadderImage
from s3pot.prefix import FrozenPrefix
from s3pot.scorecard.estimates import Estimate

BATCHES = (1, 8)


def estimate_size(weights: Sequence[Path]) -> dict[str, Estimate]:
    """Return the size of weight files together, in MB (10^6 bytes)."""
    sizes = [path.stat().st_size / 1e6 for path in weights]
    parts = ", ".join(f"{path.stem} {size:.1f}" for path, size in zip(weights, sizes, strict=True))
    return {"all/megabytes": Estimate(mean=sum(sizes), n=len(sizes), note=parts)}


def estimate_seconds(
    images: Sequence[LadderImage], prefix: FrozenPrefix, *, repeats: int = 10, warm_up: int = 2
) -> dict[str, Estimate]:
    """Time the frozen prefix per picture: median over repeats after a warm-up, in batches of 1 and of 8.

    Args:
        images: composites at the working size; taken round and round.
        prefix: what is timed.
        repeats: timed runs of each batch size.
        warm_up: untimed runs before them.
    """
    found = {}
    for size in BATCHES:
        batch = [images[place % len(images)].image for place in range(size)]
        ids = [str(place) for place in range(size)]
        seconds = []
        for _ in range(warm_up + repeats):
            started = time.perf_counter()
            prefix.run(batch, ids)
            seconds.append((time.perf_counter() - started) / size)
        # One minute of load average: a machine that does something else, too, is slower than its cores.
        busy = f"{os.getloadavg()[0]:.1f}"
        note = f"median of {repeats}, {torch.get_num_threads()} threads on {os.cpu_count()} cores, load {busy}"
        found[f"all/seconds_batch_{size}"] = Estimate(
            mean=statistics.median(seconds[warm_up:]), n=repeats, note=f"{note}, {prefix.sam.device}"
        )
    return found
