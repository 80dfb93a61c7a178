"""Train one embedded model: the face parser, the nano SAM or the reference generator.

    python ray_jobs/pretrain.py parser --data ../shared/data
    python ray_jobs/pretrain.py nano_sam --data ../shared/data
    python ray_jobs/pretrain.py generator --data ../shared/data     (after nano_sam: its encoder judges references)

Only the fold `prefix` of the training split is seen. A training that was stopped goes on from its last checkpoint.
"""

import logging
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from ray_jobs.tracking import TrackedRun, tracked_run
from s3pot.composite import Cutout, list_cutouts, load_cutout
from s3pot.composite.harvest import natural_segments, worn_hats
from s3pot.config import to_mapping
from s3pot.embedded import load_nano_sam, save_weights
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import FaceBank, list_faces, load_faces
from s3pot.pretrain.generator_training import GENERATOR_SCHEDULE, GeneratorBatches, generator_loss
from s3pot.pretrain.loop import BatchMaker, Phase, PretrainConfig, pretrain
from s3pot.pretrain.parser_training import PARSER_SCHEDULE, ParserBatches, parser_loss
from s3pot.pretrain.sam_training import SAM_SCHEDULE, NaturalBank, SamBatches, load_natural, sam_loss
from s3pot.reference.generator import ReferenceGenerator
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam

_log = logging.getLogger("s3pot.pretrain")


class EmbeddedModel(StrEnum):
    """What can be trained here."""

    parser = "parser"
    nano_sam = "nano_sam"
    generator = "generator"


_FILES = {
    EmbeddedModel.parser: "face_parser.safetensors",
    EmbeddedModel.nano_sam: "nano_sam.safetensors",
    EmbeddedModel.generator: "reference_generator.safetensors",
}
_SMOKE = (Phase(size=64, steps=2, batch=2), Phase(size=128, steps=1, batch=2))


def main(
    model: Annotated[EmbeddedModel, typer.Argument(help="Which model to train.")],
    data: Annotated[Path, typer.Option(help="Folder with celebamask/train, occluders/train and natural/train.")],
    out: Annotated[Path, typer.Option(help="Folder the weights are written to.")] = Path("runs/weights"),
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints and the MLflow database.")] = Path("runs"),
    exclude: Annotated[Path, typer.Option(help="Text file of face ids that are no clean bases, one a line.")] = Path(
        "experiments/excluded_faces.txt"
    ),
    smoke: Annotated[bool, typer.Option("--smoke", help="A few tiny steps: proves the plumbing.")] = False,
) -> None:
    """Train one embedded model on the fold `prefix` and write its weights."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    faces, cutouts, natural = load_material(data, exclude, limit=6 if smoke else None)
    _log.info("%d faces, %d cut-outs of fold prefix", len(faces), len(cutouts))
    network, batches, loss, config = _plan(model, out, faces, cutouts, natural)
    if smoke:
        config = PretrainConfig(phases=_SMOKE, checkpoint_minutes=config.checkpoint_minutes)
    folder = runs / "pretrain" / f"{model.value}{'-smoke' if smoke else ''}"
    with tracked_run("pretrain", model.value, to_mapping(config) | {"faces": len(faces)}, runs) as tracked:
        pretrain(network, batches, loss, config, folder / "checkpoint.pt", partial(_report, tracked, config))
        path = out / _FILES[model]
        trained = network.sam if isinstance(network, PromptableSam) else network
        save_weights(trained, path, {"model": model.value, "steps": str(config.total_steps), "fold": "prefix"})
        tracked.log_artifact(path)
    _log.info("wrote %s (%.1f MB)", path, path.stat().st_size / 1e6)


def load_material(data: Path, exclude: Path, limit: int | None = None) -> tuple[FaceBank, list[Cutout], NaturalBank]:
    """Read the faces and cut-outs of fold `prefix`, hats worn there included, and natural photographs."""
    excluded = {line.split("#")[0].strip() for line in exclude.read_text().splitlines()}
    root = data / "celebamask" / "train"
    faces = load_faces(root, list_faces(root, "prefix", excluded)[:limit])
    listed = list_cutouts(data / "occluders" / "train", "prefix")
    cutouts = [load_cutout(kind, path) for kind, path in listed[:: max(1, len(listed) // limit) if limit else 1]]
    natural = load_natural(data / "natural" / "train")
    cutouts += worn_hats(root, "prefix", excluded)[:limit]
    cutouts += natural_segments(natural.images, natural.segments)[:limit]
    return faces, cutouts, natural


def _plan(
    model: EmbeddedModel, out: Path, faces: FaceBank, cutouts: list[Cutout], natural: NaturalBank
) -> tuple[nn.Module, BatchMaker, "partial[dict[str, torch.Tensor]]", PretrainConfig]:
    torch.manual_seed(0)
    match model:
        case EmbeddedModel.parser:
            parser = _fast(FaceParser())
            return parser, ParserBatches(faces, cutouts), partial(parser_loss, parser), PARSER_SCHEDULE
        case EmbeddedModel.nano_sam:
            sam = PromptableSam(_fast(build_sam("nano")))
            batches = SamBatches(faces, cutouts, natural)
            return sam, batches, partial(sam_loss, sam), SAM_SCHEDULE
        case EmbeddedModel.generator:
            generator = _fast(ReferenceGenerator())
            judge = load_nano_sam(out / _FILES[EmbeddedModel.nano_sam])
            loss = partial(generator_loss, generator, judge)
            return generator, GeneratorBatches(faces, cutouts), loss, GENERATOR_SCHEDULE


def _fast(model: nn.Module) -> nn.Module:
    # Channels-last convolutions are about twice as fast on CPU in bf16.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _report(tracked: TrackedRun, config: PretrainConfig, step: int, metrics: dict[str, float]) -> None:
    tracked.log_metrics(metrics, step)
    words = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    _log.info("step %d/%d %s", step, config.total_steps, words)


if __name__ == "__main__":
    typer.run(main)
