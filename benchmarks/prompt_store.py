"""Measure reads from the token store against Parquet tensor columns: `python benchmarks/prompt_store.py [--quick]`.

The same fp16 tokens are written as the library's shards, fp16 and int8, and as Parquet files of as many images, once as
pyarrow does by default and once as Parquet reads random rows best: one image per row group, neither compressed nor
dictionary-encoded. Then images are read in random order. All files are in the page cache, as in every epoch but the
first. Rates are of fp16 tokens, whatever lies on the disk. The script fails when a read gives other values (int8:
values that are off by more than a step).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from s3pot.store.shards import read_row, write_shard
from s3pot.store.token_format import TokenFormat

PER_FILE = 8  # images per shard, as `encode` writes them
Read = Callable[[int], np.ndarray]


def write_shards(folder: Path, tokens: np.ndarray, form: TokenFormat) -> Read:
    """Write the library's shards; return how an image is read."""
    names = []
    for first in range(0, len(tokens), PER_FILE):
        rows = [torch.from_numpy(row) for row in tokens[first : first + PER_FILE]]
        ids = [str(first + place) for place in range(len(rows))]
        names.append(write_shard(folder, ids, {"image_tokens": rows}, form))
    return lambda image: read_row(folder / names[image // PER_FILE], "image_tokens", image % PER_FILE).numpy()


def write_parquet(folder: Path, tokens: np.ndarray, *, tuned: bool) -> Read:
    """Write Parquet files with a tensor column; return how an image is read."""
    options: dict[str, Any] = {"row_group_size": 1, "compression": "none", "use_dictionary": False} if tuned else {}
    folder.mkdir()
    for first in range(0, len(tokens), PER_FILE):
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(tokens[first : first + PER_FILE])
        table = pa.table({"image_tokens": column})
        pq.write_table(table, folder / f"{first // PER_FILE}.parquet", **options)
    per_group = 1 if tuned else PER_FILE

    def read(image: int) -> np.ndarray:
        group, row = divmod(image % PER_FILE, per_group)
        with pq.ParquetFile(folder / f"{image // PER_FILE}.parquet") as opened:
            column = opened.read_row_group(group, columns=["image_tokens"])["image_tokens"].combine_chunks()
        return column.to_numpy_ndarray()[row]

    return read


def measure(
    name: str,
    folder: Path,
    write: Callable[[Path], Read],
    tokens: np.ndarray,
    order: np.ndarray,
    allowed: float = 0.0,
) -> float:
    """Print one line of the table; return milliseconds per image read."""
    begin = time.perf_counter()
    read = write(folder)
    writing = time.perf_counter() - begin
    for image in range(len(tokens)):  # fills the page cache
        if np.abs(read(image).astype(np.float32) - tokens[image]).max() > allowed:
            raise SystemExit(f"{name}: image {image} came back with other values")
    times = []
    for image in order:
        begin = time.perf_counter()
        read(int(image)).copy()  # a memory map is read when it is touched
        times.append(time.perf_counter() - begin)
    reading = 1000 * float(np.median(times))
    size = sum(path.stat().st_size for path in folder.iterdir()) / len(tokens)
    rates = (tokens.nbytes / writing / 2**20, tokens[0].nbytes / reading / 2**20 * 1000)
    print(f"{name:<34}{rates[0]:>12.0f}{rates[1]:>12.0f}{reading:>10.2f}{size:>14.0f}", flush=True)
    return reading


def compare(title: str, tokens: np.ndarray, folder: Path) -> None:
    """Print the table of one token size."""
    order = np.random.default_rng(1).permutation(len(tokens))
    heading = f"{title}, {len(tokens)} images"
    print(f"{heading:<34}{'write MiB/s':>12}{'read MiB/s':>12}{'read ms':>10}{'bytes/image':>14}")
    step = float((tokens.max((2, 3)).astype(np.float32) - tokens.min((2, 3))).max()) / 255
    ours = measure("shards, fp16 (ours)", folder / "fp16", lambda to: write_shards(to, tokens, "fp16"), tokens, order)
    int8 = measure("shards, int8", folder / "int8", lambda to: write_shards(to, tokens, "int8"), tokens, order, step)
    tuned = measure(
        "Parquet for random rows", folder / "1", lambda to: write_parquet(to, tokens, tuned=True), tokens, order
    )
    plain = measure(
        "Parquet as it comes", folder / "8", lambda to: write_parquet(to, tokens, tuned=False), tokens, order
    )
    print(
        f"a random image is read {tuned / ours:.0f} to {plain / ours:.0f} times faster than from Parquet; from int8 "
        f"{tuned / int8:.0f} to {plain / int8:.0f} times\n",
        flush=True,
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Token shards against Parquet tensor columns.")
    parser.add_argument("--quick", action="store_true", help="tokens of the nano SAM only")
    shapes = {"nano 128 x 32 x 32": (64, 128, 32, 32), "vit 256 x 64 x 64": (24, 256, 64, 64)}
    if parser.parse_args().quick:
        del shapes["vit 256 x 64 x 64"]
    for title, shape in shapes.items():
        tokens = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(np.float16)
        with tempfile.TemporaryDirectory() as folder:
            compare(title, tokens, Path(folder))


if __name__ == "__main__":
    main()
