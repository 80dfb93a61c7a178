"""S3POT end to end in a few minutes: encode -> train -> overfit -> evaluate -> report. `make demo` runs this.

    python -m ray_jobs.demo                       the astronaut photograph, occluders composited, so truth is exact
    python -m ray_jobs.demo --images folder       your own photographs: pictures only, there is no truth

An illustration, not a result: one person's face, a training of seconds, occluders drawn by a script.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
import torch
import typer
from jaxtyping import UInt8
from skimage import data

from ray_jobs import cluster
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed, absolute, setup_logging
from ray_jobs.overfit import OverfitConfig, overfit
from ray_jobs.report import ReportConfig, report
from ray_jobs.tracking import tracking_uri
from ray_jobs.train import HEAD_FILE, TrainConfig, train
from s3pot.alignment import align_face
from s3pot.chain import ChainConfig
from s3pot.composite import Cutout, compose, unoccluded
from s3pot.composite.drawn import drawn_cutouts
from s3pot.composite.rendering import NamedComposite, write_composites
from s3pot.embedded import load_parser
from s3pot.head.training import TrainingConfig
from s3pot.images import list_images
from s3pot.parsing.network import PARSER_SIZE, parse_faces
from s3pot.seeding import generator
from s3pot.store.prompt_store import PromptStore

NOTE = "illustration, not a result"
TRAIN_PICTURES, HELD_OUT_PICTURES, HELD_OUT_CLEAN = 24, 14, 3
HELD_OUT = "held-out"
# The demo's own training sees neither these crops nor these occluders.
_HELD_OUT_CUTOUTS = {"sunglasses/aviator", "masks/surgical", "objects/microphone"}
_log = logging.getLogger("s3pot.demo")


def main(
    images: Annotated[Path | None, typer.Option(help="Folder of your own photographs instead of the astronaut.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder everything is written to.")] = Path("runs"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the standard training.")] = 12,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps per overfitted image.")] = 30,
    fresh: Annotated[bool, typer.Option(help="Start over instead of reusing an earlier demo's results.")] = True,
) -> None:
    """Run the whole chain and print where to look."""
    setup_logging()
    started = time.monotonic()
    work = absolute(runs) / ("demo-images" if images else "demo")
    if fresh and work.exists():
        shutil.rmtree(work)
    cluster.connect()
    try:
        page, table = _own_pictures(images, work, epochs, steps) if images else _astronaut(work, epochs, steps)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"\n{NOTE}\n{table}\n\nreport    {page}")
    typer.echo(f"MLflow    .venv/bin/mlflow server --backend-store-uri {tracking_uri(work)} --host 127.0.0.1 --port 5055")
    typer.echo(f"          then open http://127.0.0.1:5055        ({time.monotonic() - started:.0f} s in all)")


def _astronaut(work: Path, epochs: int, steps: int) -> tuple[Path, str]:
    manifests = {}
    faces = _astronaut_crops(TRAIN_PICTURES + HELD_OUT_PICTURES)
    split = {"train": faces[:TRAIN_PICTURES], HELD_OUT: faces[TRAIN_PICTURES:]}
    for name, crops in split.items():
        write_composites(_composites(name, crops), work / "data" / name)
        manifests[name] = work / "data" / name / "manifest.parquet"
    chain = ChainConfig(alignment="none")
    stores = {name: work / "stores" / name for name in manifests}
    for name, manifest in manifests.items():
        encode(EncodeConfig(input=manifest, store=stores[name], chain=chain, runs=work))
    return _train_and_report(work, stores["train"], stores[HELD_OUT], epochs, steps)


def _own_pictures(images: Path, work: Path, epochs: int, steps: int) -> tuple[Path, str]:
    _log.info("%d pictures in %s", len(list_images(images, recursive=True)), images)
    store = work / "stores" / "images"
    try:
        encode(EncodeConfig(input=images, store=store, runs=work))
    except PartlyFailed as error:
        _log.warning("%s", error)
    if len(PromptStore(store).records()) == 0:
        raise ValueError(f"{images}: no face was found in any picture; frontal faces of at least 40 px work best")
    return _train_and_report(work, store, store, epochs, steps)


def _train_and_report(work: Path, train_store: Path, test_store: Path, epochs: int, steps: int) -> tuple[Path, str]:
    training = TrainingConfig(epochs=epochs, learning_rate=1e-3)
    head = train(TrainConfig(store=train_store, training=training, runs=work)) / HEAD_FILE
    fleet = OverfitConfig(store=test_store, steps=steps, runs=work)
    evaluations: dict[str, Path] = {}
    for name, chosen in (("without reweighter", "none"), ("shipped head", "embedded"), ("demo head", str(head))):
        evaluations[name] = _tolerant_evaluate(EvaluateConfig(store=test_store, head=chosen, runs=work))
    evaluations["per image (transductive)"] = overfit(fleet)
    config = ReportConfig(
        store=test_store,
        evaluations=evaluations,
        out=work / "report.html",
        title="S3POT demo",
        note=NOTE,
        images=True,
    )
    return report(config), _table(evaluations)


def _tolerant_evaluate(config: EvaluateConfig) -> Path:
    try:
        return evaluate(config)
    except PartlyFailed as error:
        _log.warning("%s", error)
        return max((absolute(config.runs) / "evaluate").iterdir(), key=lambda folder: folder.stat().st_mtime)


def _table(evaluations: dict[str, Path]) -> str:
    """Return the short table: mean IoU over held-out composites, and false-positive area on clean crops."""
    lines = [f"{'':26s} {'IoU':>7s} {'precision':>10s} {'recall':>7s} {'clean face marked':>18s}"]
    for name, folder in evaluations.items():
        table = pd.read_parquet(folder / "per_image.parquet")
        if table["truth_pixels"].isna().all():
            return f"{len(table)} pictures without truth: look at the report"
        occluded, clean = table[table["truth_pixels"] > 0], table[table["truth_pixels"] == 0]
        numbers = [occluded[column].mean() for column in ("iou_face_mask", "precision", "recall")]
        lines.append(
            f"{name:26s} {numbers[0]:7.3f} {numbers[1]:10.3f} {numbers[2]:7.3f} "
            f"{clean['false_positive_area'].mean():16.1f} %"
        )
    return "\n".join(lines) + f"\n({len(occluded)} held-out composites and {len(clean)} clean crops of one face)"


def _astronaut_crops(number: int) -> list[UInt8[np.ndarray, "s s 3"]]:
    """Return aligned crops of the astronaut, each moved, turned, mirrored and lit a little differently."""
    face = align_face(data.astronaut(), "detect", PARSER_SIZE)
    if face is None:
        raise ValueError("no face was found in scikit-image's astronaut photograph: is scikit-image intact?")
    crops = []
    for index in range(number):
        rng = generator(0, "demo/crop", str(index))
        middle = PARSER_SIZE / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 4), rng.uniform(0.92, 1.12))
        matrix[:, 2] += rng.normal(0, 5, size=2)
        crop = cv2.warpAffine(face.image, matrix, (PARSER_SIZE, PARSER_SIZE), borderMode=cv2.BORDER_REFLECT_101)
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        light = np.clip(crop * rng.uniform(0.8, 1.15) * (1 + rng.normal(0, 0.03, size=3)), 0, 255)
        crops.append(np.ascontiguousarray(light.astype(np.uint8)))
    return crops


def _composites(name: str, crops: list[np.ndarray]) -> list[NamedComposite]:
    cutouts = drawn_cutouts()
    mine = [cutout for cutout in cutouts if (cutout.id in _HELD_OUT_CUTOUTS) == (name == HELD_OUT)]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255.0
    parsings = parse_faces(load_parser(), pixels).numpy()
    named = []
    for index, (crop, parsing) in enumerate(zip(crops, parsings, strict=True)):
        rng = generator(0, f"demo/{name}", str(index))
        if name == HELD_OUT and index < HELD_OUT_CLEAN:
            composite = unoccluded(crop, parsing)
        else:
            cutout: Cutout = mine[index % len(mine)]
            composite = compose(crop, parsing, [cutout], rng)
        named.append(
            NamedComposite(id=f"{name}-{index:02d}", face_id="astronaut", composite=composite, parsing=parsing)
        )
    return named


if __name__ == "__main__":
    typer.run(main)
