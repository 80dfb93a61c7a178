"""Measure the encoding job against a bare loop of the same models: `python benchmarks/encode_throughput.py [--quick]`.

The models are tiny ones with random weights (64 px SAM, a small generator) on one torch thread per process, so that
what the job adds is seen. Rates are of the steady state: from the first batch that was written to the last, without
starting Ray and loading models. Memory is the proportional set size of this process and all it started, which includes
the object store.
"""

import argparse
import itertools
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import torch
from torch import Tensor

from ray_jobs import encode_stages
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode_inputs import as_table, list_inputs
from ray_jobs.encode_stages import ContrastActor, EncodeActor, ReferenceActor, Work, open_target
from s3pot.alignment import FaceAligner
from s3pot.chain import ChainConfig
from s3pot.images import write_png
from s3pot.prefix import FrozenPrefix
from s3pot.reference.generator import ReferenceGenerator
from s3pot.store.back_off import BackOff
from s3pot.store.encoding import StoreWriting, encode_images
from s3pot.store.manifest import PROMPTED, list_parts, part_number
from s3pot.store.prompt_store import PromptStore
from tests.stand_ins import drawn_prefix, textured_face

BATCH = 8
FILES = 20


class Blur(ReferenceGenerator):
    """Stands for a generator that takes little: it smooths the picture."""

    def forward(self, image: Tensor, parsing: Tensor) -> Tensor:
        """Return the smoothed picture."""
        return torch.nn.functional.avg_pool2d(image, 9, stride=1, padding=4)


def tiny_prefix() -> FrozenPrefix:
    """Return a prefix that takes about 15 ms per image on one thread."""
    torch.set_num_threads(1)
    prefix = drawn_prefix()
    prefix.generator = Blur().eval()
    return prefix


class TinyEncodeActor(EncodeActor):
    """The actor of `stages: fused` with tiny models."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.back_off = work, BackOff(work.pool.batch_size)
        self.prefix, self.aligner = tiny_prefix(), FaceAligner("none")
        self.store, self.writing = open_target(work)


class TinyReferenceActor(ReferenceActor):
    """The first actor of `stages: split` with tiny models."""

    def __init__(self, work: Work, threads: int) -> None:
        self.chain, self.back_off = work.chain, BackOff(BATCH)
        self.stage, self.aligner = tiny_prefix(), FaceAligner("none")


class TinyContrastActor(ContrastActor):
    """The second actor of `stages: split` with tiny models."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work, self.back_off = work, BackOff(work.pool.batch_size)
        self.sam = tiny_prefix().sam
        self.store, self.writing = open_target(work)


def manifest_of(folder: Path, images: int) -> pd.DataFrame:
    """Return items of so many images, which share a few files."""
    for number in range(FILES):
        if not (folder / f"{number}.png").exists():
            write_png(folder / f"{number}.png", textured_face(number)[0])
    table = folder / f"{images}.csv"
    rows = [f"face-{number:07d},{number % FILES}.png" for number in range(images)]
    table.write_text("\n".join(["id,path", *rows]) + "\n")
    return list_inputs(str(table))


def job_rate(items: pd.DataFrame, actors: int, *, split: bool = False) -> float:
    """Encode as the job does, into a new store; returns images per second of the steady state."""
    with tempfile.TemporaryDirectory() as folder:
        chain = ChainConfig(alignment="none")
        store = PromptStore.create(Path(folder) / "store", chain)
        pool = PoolConfig(batch_size=BATCH, actors=actors)
        work = Work(
            chain=chain,
            store=store.root,
            writing=StoreWriting(store=store.root, per_shard=BATCH),
            pool=pool,
            reference_pool=pool if split else None,
        )
        for row in encode_stages.run_stages(as_table(items), work):
            assert row["status"] in PROMPTED, row
        assert len(store.rows(["status"])) == len(items)
        return steady_rate(store, actors)


def steady_rate(store: PromptStore, actors: int) -> float:
    """Return images per second from the time the first batch of every actor was written until the last was."""
    # The number of a part is when it was written, in ns.
    times = [part_number(part) / 1e9 for part in list_parts(store.manifest)]
    return BATCH * (len(times) - actors) / (times[-1] - times[actors - 1])


def bare_rate(items: pd.DataFrame) -> float:
    """Encode by the library in this process, one batch after the other; returns images per second."""
    prefix, aligner, rows = tiny_prefix(), FaceAligner("none"), items.to_dict("records")
    with tempfile.TemporaryDirectory() as folder:
        store = PromptStore.create(Path(folder) / "store", ChainConfig(alignment="none"))
        back_off = BackOff(BATCH)
        for first in range(0, len(rows), BATCH):
            store.append(encode_images(prefix, rows[first : first + BATCH], store.root, aligner, back_off=back_off))
        return steady_rate(store, 1)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Watch this process and all it started; the list holds the peak in MB at the end."""
    peak, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], sum(_proportional_kb(pid) for pid in _tree()) / 1e3)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _tree() -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [os.getpid()]
    for pid in found:
        found += parents.get(pid, [])
    return found


def _proportional_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description="The encoding job against a bare loop.")
    parser.add_argument("--quick", action="store_true", help="few images")
    quick = parser.parse_args().quick
    few, many, rounds = (64, 128, 1) if quick else (504, 5040, 2)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    encode_stages.EncodeActor = TinyEncodeActor  # type: ignore[misc]
    encode_stages.ReferenceActor = TinyReferenceActor  # type: ignore[misc]
    encode_stages.ContrastActor = TinyContrastActor  # type: ignore[misc]
    load = os.getloadavg()[0]
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    # A cluster of its own: another that runs on this machine would be neither seen nor counted.
    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peaks = []
        for images in (few, many):
            with peak_memory() as peak:
                job_rate(manifest_of(folder, images), 1)
            peaks.append(peak[0])
            print(f"{images:>5} images: {peak[0]:.0f} MB at most, all processes and the object store")
        print(f"{many // few} times the images take {peaks[1] / peaks[0]:.2f} times the memory", flush=True)
        items = manifest_of(folder, few)
        ways: dict[str, Any] = {
            "bare loop, 1 process": lambda: bare_rate(items),
            "job, fused, 1 actor": lambda: job_rate(items, 1),
            "job, fused, 2 actors": lambda: job_rate(items, 2),
            "job, split, 1 + 1 actors": lambda: job_rate(items, 1, split=True),
        }
        # In turn, best of rounds: whatever else the machine does falls on all of them.
        rates = dict.fromkeys(ways, 0.0)
        for _, way in itertools.product(range(rounds), ways):
            rates[way] = max(rates[way], ways[way]())
        print(f"{f'{few} images, one thread each':<34}{'images/s':>10}   (load before: {load:.1f})")
        for way, rate in rates.items():
            print(f"{way:<34}{rate:>10.1f}")
        bare, one, two, split = rates.values()
        print(f"the job costs {100 * (bare / one - 1):.1f} % over the bare loop")
        print(f"2 actors are {two / one:.2f} times as fast as 1")
        print(f"fused with 2 actors is {two / split:.2f} times as fast as split with 1 + 1")
    ray.shutdown()


if __name__ == "__main__":
    main()
