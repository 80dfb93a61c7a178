"""Train one embedded model: the face parser, the nano SAM, the reference generator, or what the chain is judged by.

    python ray_jobs/pretrain.py parser --data ../shared/data
    python ray_jobs/pretrain.py parser --data ../shared/data --teacher s3pot/weights/face_parser.safetensors
    python ray_jobs/pretrain.py nano_sam --data ../shared/data
    python ray_jobs/pretrain.py generator --data ../shared/data     (after nano_sam: its encoder judges references)
    python ray_jobs/pretrain.py generator --data ../shared/data --seed 1
        --start-from runs/weights/reference_generator.safetensors   (as long again, on other samples)
    python ray_jobs/pretrain.py landmarks --data ../shared/data     (finds face landmarks, for the score of references)
    python ray_jobs/pretrain.py supervised --data ../shared/data    (a baseline that is shown the truth)
    python ray_jobs/pretrain.py locator --data ../shared/data       (finds faces; starts from the embedded parser)

Models that never saw a kind of occluder go to a folder of their own; `--scale` makes comparable runs short:

    python ray_jobs/pretrain.py nano_sam --data ../shared/data --leave-out hands      (-> runs/weights-without-hands)
    S3POT_WEIGHTS=runs/weights-without-hands python ray_jobs/ladder.py manifest=runs/data/dev/manifest.parquet head=none

With `--measure-on runs/data/dev/manifest.parquet` (made by `s3pot data composite experiments/dev_composites.yaml`) the
numbers of a model go into its card; all but `supervised` have one. Training sees only the fold `prefix` of the training
split. A training that was stopped goes on from its last checkpoint; one that is finished is not repeated.
"""

import logging
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from ray_jobs.model_cards import PHOTOGRAPHS_OF_PEOPLE, write_card
from ray_jobs.tracking import TrackedRun, tracked_run
from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.config import to_mapping
from s3pot.embedded import WEIGHT_FILES, file_hash, load_nano_sam, load_parser, load_weights, save_weights
from s3pot.locator import FaceLocator
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import FaceBank, join_faces, load_unlabelled_faces
from s3pot.pretrain.generator_training import GENERATOR_SCHEDULE, GeneratorBatches, generator_loss
from s3pot.pretrain.landmark_training import LANDMARK_SCHEDULE, LandmarkBatches, landmark_loss
from s3pot.pretrain.locator_scenes import load_scene_material
from s3pot.pretrain.locator_training import LOCATOR_SCHEDULE, LocatorBatches, locator_loss, start_from_parser
from s3pot.pretrain.loop import BatchMaker, Phase, PretrainConfig, pretrain
from s3pot.pretrain.material import Material, load_material, read_excluded
from s3pot.pretrain.parser_training import PARSER_SCHEDULE, ParserBatches, parser_loss
from s3pot.pretrain.sam_training import SAM_SCHEDULE, SamBatches, sam_loss
from s3pot.pretrain.supervised_training import SUPERVISED_SCHEDULE, SupervisedBatches, supervised_loss
from s3pot.reference.generator import ReferenceGenerator
from s3pot.reference.landmarks import LandmarkDetector
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from s3pot.scorecard.dev_scenes import SCENES

_log = logging.getLogger("s3pot.pretrain")


class EmbeddedModel(StrEnum):
    """What can be trained here."""

    parser = "parser"
    nano_sam = "nano_sam"
    generator = "generator"
    landmarks = "landmarks"
    supervised = "supervised"
    locator = "locator"


_SMOKE_SCENES = 4
_SMOKE = (Phase(size=64, steps=2, batch=2), Phase(size=128, steps=1, batch=2))


def main(
    model: Annotated[EmbeddedModel, typer.Argument(help="Which model to train.")],
    data: Annotated[Path, typer.Option(help="Folder with celebamask/train, occluders/train and natural/train.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the weights; RUNS/weights, and -without-KIND or -scale-SHARE with it."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of checkpoints and the MLflow database.")] = Path("runs"),
    exclude: Annotated[Path, typer.Option(help="Text file of face ids that are no clean bases, one a line.")] = Path(
        "experiments/excluded_faces.txt"
    ),
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Train without this kind of occluder (hands, sunglasses ...); repeatable.")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Weights of a face parser; the new one learns its labels of the faces in celeba_hq as well.",
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Weights of the same model to go on from (fine-tuning); give another --seed to see other samples.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights and samples.")] = 0,
    scale: Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of every phase's steps that is run.")] = 1.0,
    measure_on: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Manifest of composites the weights are measured on; the numbers go into their model card. A locator "
            "is measured on scenes of fold dev instead. Where the training is finished, its weights are written again "
            "and measured: nothing is trained.",
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few tiny steps: proves the plumbing.")] = False,
) -> None:
    """Train one embedded model on the fold `prefix` and write its weights."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    left_out = sorted(set(leave_out or ()))
    variant = variant_name(left_out, scale)
    out = out or runs / f"weights{variant}"
    if measure_on is not None and model is EmbeddedModel.supervised:
        raise typer.BadParameter(f"the scorecard has no rows for {model.value}: leave --measure-on out")
    if teacher is not None and model is not EmbeddedModel.parser:
        raise typer.BadParameter(f"only a parser learns from a teacher: leave --teacher out for {model.value}")
    try:
        material = load_material(data, read_excluded(exclude), leave_out=left_out, limit=6 if smoke else None)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    kinds = " ".join(left_out) or "none"
    _log.info("%d faces, %d cut-outs of fold prefix, left out: %s", len(material.faces), len(material.cutouts), kinds)
    network, batches, loss, config = _plan(model, out, material, teacher, seed)
    trained = network.sam if isinstance(network, PromptableSam) else network
    config = replace(scaled(config, scale), seed=seed)
    if smoke:
        config = PretrainConfig(phases=_SMOKE, checkpoint_minutes=config.checkpoint_minutes)
    described = {"left_out": kinds, "scale": f"{scale:g}", "seed": str(seed)}
    described |= {"teacher": file_hash(teacher)} if teacher else {}
    name = f"{model.value}{f'-seed-{seed}' if seed else ''}"
    if start_from is not None:
        described["start_from"] = file_hash(start_from)
        name += f"-from-{described['start_from'][:8]}"
        load_weights(trained, start_from).requires_grad_(True)
    folder = runs / f"pretrain{variant}" / f"{name}{'-smoke' if smoke else ''}"
    params = to_mapping(config) | {"faces": len(material.faces)} | described
    with tracked_run("pretrain", f"{name}{variant}", params, runs, folder) as tracked:
        pretrain(network, batches, loss, config, folder / "checkpoint.pt", partial(_report, tracked, config))
        path = out / WEIGHT_FILES[model]
        metadata = {"model": model.value, "steps": str(config.total_steps), "fold": "prefix"}
        save_weights(trained, path, metadata | described)
        tracked.log_artifact(path)
    _log.info("wrote %s (%.1f MB)", path, path.stat().st_size / 1e6)
    if measure_on is not None:
        card = write_card(model.value, out, measure_on, material, _SMOKE_SCENES if smoke else SCENES)
        _log.info("measured numbers: %s", card)


def variant_name(left_out: list[str], scale: float) -> str:
    """Name what differs from the shipped training; it keeps folders of weights and checkpoints apart."""
    return "".join([*(f"-without-{kind}" for kind in left_out), f"-scale-{scale:g}" if scale != 1.0 else ""])


def scaled(config: PretrainConfig, scale: float) -> PretrainConfig:
    """Shorten every phase of a schedule to a share of its steps, at least one."""
    phases = tuple(replace(phase, steps=max(1, round(scale * phase.steps))) for phase in config.phases)
    return replace(config, phases=phases)


def _plan(
    model: EmbeddedModel, out: Path, material: Material, teacher: Path | None, seed: int
) -> tuple[nn.Module, BatchMaker, "partial[dict[str, torch.Tensor]]", PretrainConfig]:
    torch.manual_seed(seed)
    faces, cutouts = material.faces, material.cutouts
    match model:
        case EmbeddedModel.parser:
            parser = _fast(FaceParser())
            if teacher is not None:
                faces = _with_unlabelled(material, load_parser(teacher))
            return parser, ParserBatches(faces, cutouts, seed=seed), partial(parser_loss, parser), PARSER_SCHEDULE
        case EmbeddedModel.nano_sam:
            sam = PromptableSam(_fast(build_sam("nano")))
            batches = SamBatches(faces, cutouts, material.natural, seed=seed)
            return sam, batches, partial(sam_loss, sam), SAM_SCHEDULE
        case EmbeddedModel.generator:
            generator = _fast(ReferenceGenerator())
            judge = load_nano_sam(out / WEIGHT_FILES["nano_sam"])
            faces = _with_unlabelled(material, load_parser(out / WEIGHT_FILES["parser"]))
            loss = partial(generator_loss, generator, judge)
            return generator, GeneratorBatches(faces, cutouts, seed=seed), loss, GENERATOR_SCHEDULE
        case EmbeddedModel.landmarks:
            detector = _fast(LandmarkDetector())
            return detector, LandmarkBatches(faces, seed=seed), partial(landmark_loss, detector), LANDMARK_SCHEDULE
        case EmbeddedModel.supervised:
            segmenter = _fast(SupervisedSegmenter())
            return (
                segmenter,
                SupervisedBatches(faces, cutouts, seed=seed),
                partial(supervised_loss, segmenter),
                SUPERVISED_SCHEDULE,
            )
        case EmbeddedModel.locator:
            parser, people = load_parser(), read_excluded(PHOTOGRAPHS_OF_PEOPLE)
            locator = _fast(start_from_parser(FaceLocator(), parser))
            scenes = LocatorBatches(load_scene_material(material, parser, people), seed=seed)
            return locator, scenes, partial(locator_loss, locator), LOCATOR_SCHEDULE


def _with_unlabelled(material: Material, parser: FaceParser) -> FaceBank:
    more = load_unlabelled_faces(material.data / "celeba_hq", parser, material.excluded)
    return join_faces(material.faces, more)


def _fast(model: nn.Module) -> nn.Module:
    # Channels-last convolutions are about twice as fast on CPU in bf16.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _report(tracked: TrackedRun, config: PretrainConfig, step: int, metrics: dict[str, float]) -> None:
    tracked.log_metrics(metrics, step)
    words = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    _log.info("step %d/%d %s", step, config.total_steps, words)


if __name__ == "__main__":
    typer.run(main)
