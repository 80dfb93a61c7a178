"""Measure what int8 tokens cost in IoU and save in bytes: `python benchmarks/int8_tokens.py [--quick] [--store STORE]`.

The tokens of an fp16 store are rounded to int8 in a copy; prompts stay, as they come from the chain and not from what
is stored. Both are evaluated on the same images, with the shipped head and with none, and the IoU is compared image by
image. Without a store the embedded chain first makes one of composites of scikit-image's astronaut: one face, hence no
interval that speaks for other faces. Never give it a store of the split `val`.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from s3pot.chain import ChainConfig, load_aligner, load_prefix
from s3pot.composite.astronaut import astronaut_composites, astronaut_crops
from s3pot.composite.rendering import write_composites
from s3pot.embedded import weights_path
from s3pot.evaluation import evaluate_store
from s3pot.head.head_file import load_reweighter
from s3pot.metrics.intervals import paired_difference
from s3pot.store.encoding import encode_images
from s3pot.store.inventory import take_inventory
from s3pot.store.prompt_store import PromptStore, create_empty
from s3pot.store.shards import read_row, write_shard

HEADLINE = "iou_face_mask"


def encode_astronaut(folder: Path, composites: int) -> PromptStore:
    """Encode composites of the astronaut with the embedded chain."""
    write_composites(astronaut_composites(astronaut_crops(composites), held_out=True, clean=0), folder / "data")
    items = pd.read_parquet(folder / "data" / "manifest.parquet").to_dict("records")
    items = [item | {"path": str(folder / "data" / item["path"])} for item in items]
    chain = ChainConfig(alignment="none", device="cpu")
    store = PromptStore.create(folder / "fp16", chain)
    prefix, aligner = load_prefix(chain), load_aligner(chain)
    for first in range(0, len(items), 8):
        store.append(encode_images(prefix, items[first : first + 8], store.root, aligner))
    return store


def round_tokens(store: PromptStore, folder: Path) -> tuple[PromptStore, float]:
    """Copy a store with int8 tokens; returns it and the relative error of the tokens, root mean square."""
    rounded = create_empty(folder, store.description["identity"], store.description["chain"], "int8")
    rows, wrong, power = store.rows(), 0.0, 0.0
    with_tokens = rows[rows["shard"].notna()]
    for shard, group in with_tokens.groupby("shard"):
        records = [dict(zip(rows.columns, row, strict=True)) for row in group.itertuples(index=False)]
        tokens = [read_row(store.shards / str(shard), "image_tokens", int(row["row"])) for row in records]
        name = write_shard(rounded.shards, [row["id"] for row in records], {"image_tokens": tokens}, "int8")
        for number, (row, exact) in enumerate(zip(records, tokens, strict=True)):
            row |= {"shard": name, "row": number}
            found = read_row(rounded.shards / name, "image_tokens", number)
            wrong += float((found.float() - exact.float()).square().sum())
            power += float(exact.float().square().sum())
        rounded.append(records)
    return rounded, (wrong / power) ** 0.5


def compare(fp16: PromptStore, int8: PromptStore, reweighter: nn.Module | None, title: str) -> None:
    """Evaluate both and print the paired difference over occluded images."""
    sam = fp16.load_sam("cpu")
    tables = [evaluate_store(store, sam, reweighter).set_index("id") for store in (fp16, int8)]
    tables = [table[table["truth_pixels"] > 0] for table in tables]
    before, after = (table[HEADLINE] for table in tables)
    faces, cutouts = (tables[0][column] for column in ("face_id", "cutout_id"))
    rng = np.random.default_rng(0)
    interval = paired_difference(after, before, faces, cutouts, rng=rng)
    print(
        f"{title:<14}{before.mean():>8.4f}{after.mean():>8.4f}{interval.mean:>+11.5f} "
        f"[{interval.low:+.5f}, {interval.high:+.5f}]{(after - before).abs().max():>9.4f}{interval.n:>6}",
        flush=True,
    )


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="IoU and bytes of int8 tokens against fp16.")
    parser.add_argument("--quick", action="store_true", help="few composites")
    parser.add_argument("--store", type=Path, help="an fp16 store with truth, made with the installed weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fp16 = (
            PromptStore(arguments.store)
            if arguments.store
            else encode_astronaut(folder, composites=8 if arguments.quick else 48)
        )
        int8, error = round_tokens(fp16, folder / "int8")
        print(f"{'bytes per image':<24}{'tokens':>10}{'manifest':>10}{'in all':>10}")
        for store in (fp16, int8):
            held = take_inventory(store)
            numbers = (held.token_bytes_per_image, held.manifest_bytes_per_image)
            print(f"{store.tokens:<24}{numbers[0]:>10.0f}{numbers[1]:>10.0f}{sum(numbers):>10.0f}")
        print(f"relative error of int8 tokens, root mean square: {error:.5f}")
        print(f"{'IoU':<14}{'fp16':>8}{'int8':>8}{'difference':>11} {'95 % interval':<20}{'largest':>11}{'n':>6}")
        compare(fp16, int8, None, "no head")
        compare(fp16, int8, load_reweighter(weights_path("reweighter")), "shipped head")


if __name__ == "__main__":
    main()
