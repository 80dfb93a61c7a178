"""Measure the manifest at a million images: `python benchmarks/store_manifest.py [--quick]`.

What `encode` asks when it goes on, which images are there with which status, is read from synthetic parts: once as the
library does, once as pandas reads a folder of Parquet files, all columns. Each runs in a process of its own, for its
peak of memory beyond that of the imports. Then small parts, one per batch as encoding writes them, are read before and
after a compaction. The script fails when the rows differ.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from s3pot.store.compaction import compact_parts
from s3pot.store.manifest import SCHEMA, append_part, list_parts, read_manifest, write_part

ROWS, PER_PART, PICTURE = 1_000_000, 4000, 256
BATCH, BATCHES = 8, 2000


def write_parts(folder: Path, rows: int) -> None:
    """Write synthetic rows: every column that is not small in life has bytes that do not compress."""
    rng = np.random.default_rng(0)
    order = rng.permutation(rows)
    for first in range(0, rows, PER_PART):
        count = min(PER_PART, rows - first)
        ids = [f"photos/{number:07d}.jpg" for number in order[first : first + count]]
        values = {
            "id": ids,
            "path": [f"/data/{name}" for name in ids],
            "status": rng.choice(["ok", "ok", "ok", "no_occlusion_prompts", "failed"], count).tolist(),
            "shard": [f"{(first + place) // BATCH:064x}.safetensors" for place in range(count)],
            "row": [place % BATCH for place in range(count)],
            "image_sha256": [rng.bytes(32).hex() for _ in range(count)],
            "reference_jpeg": [rng.bytes(PICTURE) for _ in range(count)],
        }
        columns = [pa.array(values.get(field.name, [None] * count), field.type) for field in SCHEMA]
        write_part(folder, pa.table(columns, schema=SCHEMA), first + 1)


def measure(how: str, folder: Path) -> None:
    """Read ids and statuses one way and print seconds, peak in MiB, rows and how many failed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    if how == "ours":
        frame = read_manifest(folder, ["status"])
    else:
        frame = pd.read_parquet(folder).drop_duplicates("id", keep="last").sort_values("id", ignore_index=True)
    seconds = time.perf_counter() - begin
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(seconds, peak, len(frame), int((frame["status"] == "failed").sum()))


def compare(folder: Path, rows: int) -> None:
    """Print both ways of reading ids and statuses."""
    print(f"{f'ids and statuses of {rows} images':<40}{'seconds':>9}{'peak MiB':>10}")
    found = {}
    for how, title in (("ours", "read_manifest (ours)"), ("plain", "pandas.read_parquet, all columns")):
        command = [sys.executable, __file__, "--measure", how, str(folder)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        found[how] = [float(number) for number in said]
        print(f"{title:<40}{found[how][0]:>9.2f}{found[how][1]:>10.0f}", flush=True)
    if found["ours"][2:] != found["plain"][2:] or found["ours"][2] != rows:
        raise SystemExit("the two ways found other rows")
    # A small manifest fits into what the imports had taken already.
    ratios = [found["plain"][place] / max(found["ours"][place], least) for place, least in ((0, 1e-3), (1, 1.0))]
    print(f"{ratios[0]:.1f} times faster, {ratios[1]:.1f} times less memory\n")


def compact(folder: Path, batches: int) -> None:
    """Print what small parts cost before and after a compaction."""
    begin = time.perf_counter()
    for batch in range(batches):
        rows = [
            {"id": f"{batch:05d}-{place}", "status": "ok", "reference_jpeg": bytes(PICTURE)} for place in range(BATCH)
        ]
        append_part(folder, rows)
    appending = (time.perf_counter() - begin) / batches
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        frame = read_manifest(folder, ["status"])
        times.append(time.perf_counter() - begin)
        if len(frame) != batches * BATCH:
            raise SystemExit("a compaction lost rows")
        if len(times) == 1:
            begin = time.perf_counter()
            compact_parts(folder)
            compacting = time.perf_counter() - begin
    print(
        f"{batches} parts of {BATCH} rows: {1000 * appending:.1f} ms to append each, {times[0]:.2f} s to read all ids"
    )
    print(
        f"compacted in {compacting:.2f} s to {len(list_parts(folder))} part, then {times[1]:.2f} s: "
        f"{times[0] / times[1]:.0f} times faster",
        flush=True,
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Reading the manifest of a large store.")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the rows and parts")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    share = 50 if arguments.quick else 1
    with tempfile.TemporaryDirectory() as temporary:
        write_parts(Path(temporary) / "large", ROWS // share)
        compare(Path(temporary) / "large", ROWS // share)
        compact(Path(temporary) / "small", BATCHES // share)


if __name__ == "__main__":
    main()
