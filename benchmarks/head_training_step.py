"""Measure an epoch from the store against one that encodes again: `python benchmarks/head_training_step.py [--quick]`.

Both train the same head by the same function on the same prompts (nano SAM, random weights). One reads stored tokens;
the other encodes image and reference, enhances and matches them again whenever an image is drawn, as the loop of the
released code does. Parser and generator run once for both. The script fails when the two trainings differ.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from s3pot.head.epoch_report import EpochReport
from s3pot.head.objectives import ObjectiveConfig
from s3pot.head.records import PromptRecord
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.head.training import Records, TrainingConfig, train_head
from s3pot.parsing.classes import CLASSES
from s3pot.parsing.network import FaceParser
from s3pot.prefix import FrozenPrefix, PrefixConfig, PrefixResult
from s3pot.reference.generator import ReferenceGenerator
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from s3pot.store.shards import read_row, write_shard

SIDE = 256


class StoredTokens:
    """Records whose tokens lie in a shard."""

    def __init__(self, folder: Path, results: list[PrefixResult]) -> None:
        tokens = {"image_tokens": [result.image_tokens for result in results]}
        self.shard = folder / write_shard(folder, [result.id for result in results], tokens)
        self.results = results

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.results)

    def __getitem__(self, index: int) -> PromptRecord:
        """Read one record."""
        result = self.results[index]
        return PromptRecord(
            id=result.id,
            image_tokens=read_row(self.shard, "image_tokens", index),
            occlusion_prompts=result.occlusion_prompts,
            face_prompts=result.face_prompts,
        )


class EncodedAgain:
    """Records that are computed from the pictures whenever they are asked for."""

    def __init__(self, prefix: FrozenPrefix, images: list[np.ndarray], results: list[PrefixResult]) -> None:
        self.prefix, self.images, self.results = prefix, images, results

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.results)

    def __getitem__(self, index: int) -> PromptRecord:
        """Encode one image and its reference."""
        known = self.results[index]
        [result] = self.prefix.run(
            [self.images[index]], [known.id], parsings=[known.parsing], references=[known.reference]
        )
        return result.record()


def pictures(number: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return smooth noise and the same with a patch of other noise: references and images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, number, 3, SIDE // 16, SIDE // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse.flatten(0, 1), size=(SIDE, SIDE), mode="bilinear")
    clean, other = (255 * smooth).byte().permute(0, 2, 3, 1).contiguous().numpy().reshape(2, number, SIDE, SIDE, 3)
    images = clean.copy()
    images[:, 120:200, 90:180] = other[:, 120:200, 90:180]
    return list(clean), list(images)


def disc_face() -> np.ndarray:
    """Return a parsing that calls a disc of usual size skin."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return np.where((y / 0.4) ** 2 + (x / 0.31) ** 2 < 1, CLASSES.index("skin"), 0).astype(np.uint8)


def train(sam: PromptableSam, records: Records, epochs: int) -> list[EpochReport]:
    """Train a new head; return the reports, which hold the time of every epoch."""
    torch.manual_seed(0)
    reweighter = PromptReweighter(ReweighterConfig(embed_dim=sam.embed_dim))
    config = TrainingConfig(epochs=epochs, learning_rate=1e-3)
    return train_head(reweighter, sam, records, config, ObjectiveConfig(variant="bounded"))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Stored tokens against encoding again.")
    parser.add_argument("--quick", action="store_true", help="fewer images")
    number, epochs = (6, 1) if parser.parse_args().quick else (24, 2)
    sam = PromptableSam(build_sam("nano").requires_grad_(False))
    prefix = FrozenPrefix(FaceParser().eval(), ReferenceGenerator().eval(), sam, PrefixConfig())
    clean, images = pictures(number)
    names = [str(place) for place in range(number)]
    results = prefix.run(images, names, parsings=[disc_face()] * number, references=clean)
    with tempfile.TemporaryDirectory() as folder:
        stored = StoredTokens(Path(folder), results)
        train(sam, stored, 1)  # warms up
        ours = train(sam, stored, epochs)
    again = train(sam, EncodedAgain(prefix, images, results), epochs)
    for report, other in zip(ours, again, strict=True):
        if abs(report.total - other.total) > 0.02 * abs(other.total):
            raise SystemExit(f"epoch {report.epoch}: the objective is {report.total}, encoding again {other.total}")
    print(f"{f'epoch of {number} images, batches of 3':<36}{'seconds':>9}{'images/s':>10}{'waiting for data':>18}")
    for name, reports in (("stored tokens (ours)", ours), ("image and reference encoded again", again)):
        best = min(reports, key=lambda report: report.seconds)
        print(f"{name:<36}{best.seconds:>9.2f}{best.images_per_second:>10.1f}{best.data_wait:>18.1%}")
    ratio = min(report.seconds for report in again) / min(report.seconds for report in ours)
    print(f"an epoch from the store is {ratio:.1f} times faster than one that encodes again (nano SAM)", flush=True)


if __name__ == "__main__":
    main()
