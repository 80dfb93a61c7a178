"""Which models the chain is built from, and what identifies its results."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from s3pot.alignment import AlignmentMode, FaceAligner, FaceChoice
from s3pot.checkpoints.catalogue import find_checkpoint
from s3pot.checkpoints.reading import fit, read_contents, state_of
from s3pot.config import to_mapping
from s3pot.embedded import (
    device_of,
    file_hash,
    load_generator,
    load_locator,
    load_nano_sam,
    load_parser,
    weights_path,
)
from s3pot.landmark_file import LandmarkFile
from s3pot.parsing.bisenet import load_bisenet
from s3pot.prefix import FrozenPrefix, PrefixConfig, ReferenceStage
from s3pot.reference.e4s.checkpoint import load_e4s
from s3pot.reference.e4s.model import E4S
from s3pot.reference.generator import ReferenceGenerator
from s3pot.reference.precomputed import PrecomputedReferences
from s3pot.sam.promptable import Precision, PromptableSam
from s3pot.sam.sizes import SamName, build_sam

ParserName = Literal["embedded", "bisenet"]
GeneratorName = Literal["embedded", "e4s", "precomputed"]

EMBEDDED_SIZE, OFFICIAL_SIZE = 256, 1024
"""Working sizes in pixels: what the embedded parser and generator know, and what E4S draws and SAM sees."""


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """Models and frozen stages. A checkpoint that is needed and not named is looked for in `$S3POT_WEIGHTS`.

    Attributes:
        sam: SAM size; `nano` is embedded, the others are checkpoints of segment-anything.
        sam_checkpoint: file of vit_b, vit_l or vit_h.
        sam_precision: of SAM's image encoder; bf16 is faster where the device computes in it, and rounds.
        sam_compile: compile SAM's image encoder; minutes at the start, for long runs on GPUs.
        enhance_point_only: leave IoU and mask tokens out of the feature enhancement (an ablation).
        parser: face parser; `bisenet` is the one of face-parsing.PyTorch.
        parser_checkpoint: file of bisenet.
        generator: where references come from: the embedded generator, `e4s`, or a folder of `precomputed` ones.
        generator_checkpoint: file of e4s.
        references: folder of precomputed references, in the aligned frame, named like the images.
        alignment: `detect` finds faces in a photograph (embedded locator), `landmarks` takes them from a file, `none`
            takes pictures as aligned faces.
        landmarks: CSV or Parquet file with eyes and mouth of each face (see s3pot/landmark_file.py), for alignment
            `landmarks` alone.
        faces: `main` is the most prominent face of a photograph, `all` gives every face a result of its own.
        size: working size, the long side of aligned pictures in pixels; not given = 1024 with bisenet or e4s, else 256.
        device: auto, cpu, cuda or cuda:N.
        prefix: what the frozen prefix does.
    """

    sam: SamName = "nano"
    sam_checkpoint: Path | None = None
    sam_precision: Precision = "fp32"
    sam_compile: bool = False
    enhance_point_only: bool = False
    parser: ParserName = "embedded"
    parser_checkpoint: Path | None = None
    generator: GeneratorName = "embedded"
    generator_checkpoint: Path | None = None
    references: Path | None = None
    alignment: AlignmentMode = "detect"
    landmarks: Path | None = None
    faces: FaceChoice = "main"
    size: int | None = None
    device: str = "auto"
    prefix: PrefixConfig = field(default_factory=PrefixConfig)

    def __post_init__(self) -> None:
        """Check that no file is named in vain, and settle what depends on the models."""
        for key, given, official in (
            ("sam_checkpoint", self.sam_checkpoint, self.sam != "nano"),
            ("parser_checkpoint", self.parser_checkpoint, self.parser == "bisenet"),
            ("generator_checkpoint", self.generator_checkpoint, self.generator == "e4s"),
        ):
            if given is not None and not official:
                raise ValueError(f"{key} is for {_TAKES_CHECKPOINT[key]}; the embedded model has its own weights")
        if (self.generator == "precomputed") != (self.references is not None):
            raise ValueError(
                "generator=precomputed and references=FOLDER belong together, "
                f"got generator={self.generator} and references={self.references}"
            )
        if (self.alignment == "landmarks") != (self.landmarks is not None):
            raise ValueError(
                "alignment=landmarks and landmarks=FILE belong together, "
                f"got alignment={self.alignment} and landmarks={self.landmarks}"
            )
        if self.faces == "all" and self.alignment == "none":
            raise ValueError("faces=all needs alignment detect or landmarks: none takes every picture as one face")
        self._settle()
        if self.size is None or not EMBEDDED_SIZE <= self.size <= 4 * OFFICIAL_SIZE:
            raise ValueError(f"size must lie in [{EMBEDDED_SIZE}, {4 * OFFICIAL_SIZE}] pixels, got {self.size}")

    def _settle(self) -> None:
        # Written down rather than looked up later: runs and stores say what they did.
        embedded, prefix = self.parser == "embedded", self.prefix
        if prefix.feature_enhancement is None:
            prefix = replace(prefix, feature_enhancement=self.sam != "nano")
        if prefix.face_completion is None:
            prefix = replace(prefix, face_completion="parser" if embedded else "hull")
        object.__setattr__(self, "prefix", prefix)
        if self.size is None:
            small = embedded and self.generator != "e4s"
            object.__setattr__(self, "size", EMBEDDED_SIZE if small else OFFICIAL_SIZE)

    @property
    def working_size(self) -> int:
        """Long side of aligned pictures in pixels."""
        assert self.size is not None  # settled above
        return self.size


_TAKES_CHECKPOINT = {
    "sam_checkpoint": "vit_b, vit_l and vit_h",
    "parser_checkpoint": "parser=bisenet",
    "generator_checkpoint": "generator=e4s",
}


def load_sam(config: ChainConfig) -> PromptableSam:
    """Load the configured SAM, frozen, on the configured device.

    Raises:
        WeightsError: if weights are missing, unreadable or of another size.
    """
    if config.sam == "nano":
        sam = load_nano_sam(enhance_point_only=config.enhance_point_only, precision=config.sam_precision)
    else:
        path = find_checkpoint(config.sam, config.sam_checkpoint)
        stock = build_sam(config.sam)
        fit(stock, state_of(read_contents(path), path), path)
        sam = PromptableSam(stock, enhance_point_only=config.enhance_point_only, precision=config.sam_precision)
    if config.sam_compile:
        sam.sam.image_encoder.compile()
    return sam.to(device_of(config.device)).eval()


def load_prefix(config: ChainConfig) -> FrozenPrefix:
    """Load parser, reference generator and SAM and assemble the frozen prefix.

    Raises:
        WeightsError: if weights are missing, unreadable or do not fit.
        FileNotFoundError: if the folder of precomputed references is missing.
    """
    stage = load_reference_stage(config)
    return FrozenPrefix(stage.parser, stage.generator, load_sam(config), config.prefix, size=stage.size)


def load_reference_stage(config: ChainConfig) -> ReferenceStage:
    """Load parser and reference generator alone; raises as `load_prefix`."""
    device = device_of(config.device)
    official = config.parser == "bisenet"
    parser = load_bisenet(find_checkpoint("bisenet", config.parser_checkpoint)) if official else load_parser()
    generator = _load_generator(config, device)
    return ReferenceStage(parser.to(device), generator, config.prefix, device, size=config.working_size)


def _load_generator(config: ChainConfig, device: torch.device) -> ReferenceGenerator | E4S | PrecomputedReferences:
    if config.references is not None:
        return PrecomputedReferences(config.references)
    if config.generator == "e4s":
        return load_e4s(find_checkpoint("e4s", config.generator_checkpoint)).to(device)
    return load_generator().to(device)


def load_aligner(config: ChainConfig) -> FaceAligner:
    """Build what crops faces; the face locator and the landmark file are only loaded where they are needed.

    Raises:
        WeightsError: if the locator's weights are missing, unreadable or of another network.
        ConfigError: if the landmark file cannot be used.
    """
    if config.alignment == "none":
        return FaceAligner("none")
    if config.landmarks is not None:
        return FaceAligner("landmarks", landmarks=LandmarkFile(config.landmarks))
    return FaceAligner(config.alignment, load_locator().to(device_of(config.device)))


def chain_identity(config: ChainConfig) -> str:
    """Hash what decides the frozen prefix's output: its configuration and the content of the weights.

    The device does not count, nor where files lie. Of precomputed references names and sizes count, not every byte.
    """
    mapping = to_mapping(config)
    for name in ("device", "sam_compile", "references", "landmarks", *_TAKES_CHECKPOINT):
        del mapping[name]
    mapping["prefix"] = config.prefix.counted()
    mapping["weights"] = [file_hash(path) for path in _weight_files(config)]
    if config.references is not None:
        mapping["references"] = PrecomputedReferences(config.references).listing()
    return hashlib.sha256(json.dumps(mapping, sort_keys=True, default=str).encode()).hexdigest()[:16]


def model_files(config: ChainConfig) -> dict[str, Path]:
    """Return the files of parser, generator and SAM, by part; a folder of references has no file.

    Raises:
        WeightsError: if one is missing.
    """
    files = {}
    if config.parser == "bisenet":
        files["parser"] = find_checkpoint("bisenet", config.parser_checkpoint)
    else:
        files["parser"] = weights_path("parser")
    if config.generator == "e4s":
        files["generator"] = find_checkpoint("e4s", config.generator_checkpoint)
    elif config.generator == "embedded":
        files["generator"] = weights_path("generator")
    if config.sam == "nano":
        files["sam"] = weights_path("nano_sam")
    else:
        files["sam"] = find_checkpoint(config.sam, config.sam_checkpoint)
    return files


def _weight_files(config: ChainConfig) -> list[Path]:
    files = list(model_files(config).values())
    if config.alignment == "detect":
        files.append(weights_path("locator"))
    if config.landmarks is not None:
        if not config.landmarks.is_file():
            raise FileNotFoundError(f"{config.landmarks}: the landmark file is gone; a store is known by its content")
        files.append(config.landmarks)
    return files
