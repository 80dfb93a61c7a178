"""S3POT end to end in a few minutes: encode -> train -> overfit -> evaluate -> report. `make demo` runs this.

    python -m ray_jobs.demo                       the astronaut photograph, occluders composited, so truth is exact
    python -m ray_jobs.demo --images folder       your own photographs: pictures only, there is no truth

An illustration, not a result: one person's face, a training of seconds, occluders drawn by a script.
"""

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from analysis.chain_picture import write_chain_picture
from ray_jobs import cluster
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed, absolute, setup_logging
from ray_jobs.overfit import OverfitConfig, overfit
from ray_jobs.report import ReportConfig, report
from ray_jobs.tracking import tracking_uri
from ray_jobs.train import HEAD_FILE, TrainConfig, train
from s3pot.chain import ChainConfig
from s3pot.composite.astronaut import astronaut_composites, astronaut_crops
from s3pot.composite.rendering import write_composites
from s3pot.head.training import TrainingConfig
from s3pot.images import list_images
from s3pot.store.prompt_store import PromptStore

NOTE = "illustration, not a result"
SHIPPED = "shipped head"
TRAIN_PICTURES, HELD_OUT_PICTURES, HELD_OUT_CLEAN = 24, 14, 3
_log = logging.getLogger("s3pot.demo")


def main(
    images: Annotated[Path | None, typer.Option(help="Folder of your own photographs.")] = None,
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
    mlflow = Path(sys.executable).parent / "mlflow"
    typer.echo(f"MLflow    {mlflow} server --backend-store-uri {tracking_uri(work)} --host 127.0.0.1 --port 5055")
    # Without the query the page opens on traces of language models instead of runs.
    typer.echo("          then open http://127.0.0.1:5055/#/experiments?workflowType=machine_learning")
    typer.echo(f"({time.monotonic() - started:.0f} s in all)")


def _astronaut(work: Path, epochs: int, steps: int) -> tuple[Path, str]:
    manifests = {}
    crops = astronaut_crops(TRAIN_PICTURES + HELD_OUT_PICTURES)
    pictures = {
        "train": astronaut_composites(crops[:TRAIN_PICTURES], held_out=False),
        "held-out": astronaut_composites(crops[TRAIN_PICTURES:], held_out=True, clean=HELD_OUT_CLEAN),
    }
    for name, composites in pictures.items():
        write_composites(composites, work / "data" / name)
        manifests[name] = work / "data" / name / "manifest.parquet"
    chain = ChainConfig(alignment="none")
    stores = {name: work / "stores" / name for name in manifests}
    for name, manifest in manifests.items():
        encode(EncodeConfig(input=manifest, store=stores[name], chain=chain, runs=work))
    return _train_and_report(work, stores["train"], stores["held-out"], epochs, steps)


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
    for name, chosen in (("without reweighter", "none"), (SHIPPED, "embedded"), ("demo head", str(head))):
        folder = name.replace(" ", "-")
        try:
            evaluate(EvaluateConfig(store=test_store, head=chosen, name=folder, runs=work))
        except PartlyFailed as error:
            _log.warning("%s", error)
        evaluations[name] = work / "evaluate" / folder
    evaluations["per image (transductive)"] = overfit(fleet)
    config = ReportConfig(
        store=test_store,
        evaluations=evaluations,
        out=work / "report.html",
        title="S3POT demo",
        note=NOTE,
        images=True,
    )
    tables = {name: pd.read_parquet(folder / "per_image.parquet") for name, folder in evaluations.items()}
    if tables[SHIPPED]["truth_pixels"].isna().all():
        return report(config), f"{len(tables[SHIPPED])} pictures without truth: look at the report"
    write_chain_picture(test_store, evaluations[SHIPPED], work / "chain.png")
    return report(config), _text_table(tables)


def _text_table(tables: dict[str, pd.DataFrame]) -> str:
    """Return the short table: means over held-out composites, and the share of clean faces that was marked."""
    lines = [f"{'':26s} {'IoU':>7s} {'precision':>10s} {'recall':>7s} {'clean face marked':>18s}"]
    for name, table in tables.items():
        occluded, clean = table[table["truth_pixels"] > 0], table[table["truth_pixels"] == 0]
        numbers = [occluded[column].mean() for column in ("iou_face_mask", "precision", "recall")]
        lines.append(
            f"{name:26s} {numbers[0]:7.3f} {numbers[1]:10.3f} {numbers[2]:7.3f} "
            f"{clean['false_positive_area'].mean():16.1f} %"
        )
    return "\n".join(lines) + f"\n({len(occluded)} held-out composites and {len(clean)} clean crops of one face)"


if __name__ == "__main__":
    typer.run(main)
