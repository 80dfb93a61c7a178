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
from s3pot.config import to_mapping
from s3pot.embedded import load_nano_sam, load_parser, save_weights
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import join_faces, load_unlabelled_faces
from s3pot.pretrain.generator_training import GENERATOR_SCHEDULE, GeneratorBatches, generator_loss
from s3pot.pretrain.loop import BatchMaker, Phase, PretrainConfig, pretrain
from s3pot.pretrain.material import Material, load_material, read_excluded
from s3pot.pretrain.parser_training import PARSER_SCHEDULE, ParserBatches, parser_loss
from s3pot.pretrain.sam_training import SAM_SCHEDULE, SamBatches, sam_loss
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
    material = load_material(data, read_excluded(exclude), limit=6 if smoke else None)
    _log.info("%d faces, %d cut-outs of fold prefix", len(material.faces), len(material.cutouts))
    network, batches, loss, config = _plan(model, out, material)
    if smoke:
        config = PretrainConfig(phases=_SMOKE, checkpoint_minutes=config.checkpoint_minutes)
    folder = runs / "pretrain" / f"{model.value}{'-smoke' if smoke else ''}"
    with tracked_run("pretrain", model.value, to_mapping(config) | {"faces": len(material.faces)}, runs) as tracked:
        pretrain(network, batches, loss, config, folder / "checkpoint.pt", partial(_report, tracked, config))
        path = out / _FILES[model]
        trained = network.sam if isinstance(network, PromptableSam) else network
        save_weights(trained, path, {"model": model.value, "steps": str(config.total_steps), "fold": "prefix"})
        tracked.log_artifact(path)
    _log.info("wrote %s (%.1f MB)", path, path.stat().st_size / 1e6)


def _plan(
    model: EmbeddedModel, out: Path, material: Material
) -> tuple[nn.Module, BatchMaker, "partial[dict[str, torch.Tensor]]", PretrainConfig]:
    torch.manual_seed(0)
    faces, cutouts = material.faces, material.cutouts
    match model:
        case EmbeddedModel.parser:
            parser = _fast(FaceParser())
            return parser, ParserBatches(faces, cutouts), partial(parser_loss, parser), PARSER_SCHEDULE
        case EmbeddedModel.nano_sam:
            sam = PromptableSam(_fast(build_sam("nano")))
            batches = SamBatches(faces, cutouts, material.natural)
            return sam, batches, partial(sam_loss, sam), SAM_SCHEDULE
        case EmbeddedModel.generator:
            generator = _fast(ReferenceGenerator())
            judge = load_nano_sam(out / _FILES[EmbeddedModel.nano_sam])
            parser = load_parser(out / _FILES[EmbeddedModel.parser])
            more = load_unlabelled_faces(material.data / "celeba_hq", parser, material.excluded)
            faces = join_faces(faces, more)
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
