"""Measure one embedded model, or one part of the chain, on given material: per-image tables and estimates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

import pandas as pd
import torch
from jaxtyping import UInt8
from numpy import ndarray

from s3pot.ladder import LadderImage, climb
from s3pot.locator import FaceLocator
from s3pot.parsing.network import FaceParser
from s3pot.prefix import FrozenPrefix
from s3pot.pretrain.sam_training import NaturalBank
from s3pot.reference.landmarks import LandmarkDetector
from s3pot.sam.promptable import PromptableSam
from s3pot.scorecard import ceiling, generator, landmarks, nano_sam, parser
from s3pot.scorecard import locator as face_locator
from s3pot.scorecard.dev_scenes import LocatorMaterial
from s3pot.scorecard.estimates import Estimate
from s3pot.scorecard.table import Row, assemble
from s3pot.scorecard.targets import composite_pictures, natural_pictures

EmbeddedModel = Literal["nano_sam", "parser", "generator", "locator", "landmarks"]
_SIDE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What is measured on.

    Attributes:
        composites: with truth, labels and clean pictures, of `read_ladder_images`.
        natural: photographs with segments; None = no natural segments.
        mean_face: mean of the training faces, (S, S, 3) uint8; None = not compared with.
        faces_to_locate: scenes and photographs for the locator, which needs nothing else; None = it is not measured.
    """

    composites: Sequence[LadderImage]
    natural: NaturalBank | None = None
    mean_face: UInt8[ndarray, "_ _ 3"] | None = None
    faces_to_locate: LocatorMaterial | None = None


@dataclass(frozen=True, eq=False)
class Findings:
    """Per-image tables by name, and estimates by key."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)

    def add(self, other: "Findings") -> None:
        """Take over what another part found."""
        self.tables.update(other.tables)
        self.estimates.update(other.estimates)


def measure_model(
    model: EmbeddedModel,
    material: Material,
    *,
    parser: FaceParser | None = None,
    sam: PromptableSam | None = None,
    prefix: FrozenPrefix | None = None,
    locator: FaceLocator | None = None,
    detector: LandmarkDetector | None = None,
    seed: int = 0,
) -> list[Row]:
    """Measure one embedded model: its rows of the scorecard.

    Args:
        model: which one.
        material: what it is measured on.
        parser: the face parser, for itself.
        sam: the nano SAM, for itself.
        prefix: the whole frozen prefix with the generator in it: prompts take all three.
        locator: the face locator, for itself.
        detector: the landmark detector, for itself.
        seed: of points, scenes and intervals.

    Raises:
        ValueError: if the model that is asked for, or its material, was not given.
    """
    match model:
        case "nano_sam":
            if sam is None:
                raise ValueError("measuring the nano SAM takes sam=")
            findings = find_nano_sam(material, sam, seed)
        case "parser":
            if parser is None:
                raise ValueError("measuring the face parser takes parser=")
            findings = find_parser(material, parser, seed)
        case "generator":
            if prefix is None:
                raise ValueError("measuring the generator takes prefix=: its prompts need parser and SAM, too")
            ladder = climb(material.composites, prefix, {"none": None}, ["chain", "clean_reference"], seed=seed)
            findings = find_generator(material, prefix, ladder, seed)
        case "locator":
            if locator is None:
                raise ValueError("measuring the face locator takes locator=")
            return assemble(find_locator(material, locator, seed).estimates, targets=face_locator.LOCATOR_TARGETS)
        case "landmarks":
            if detector is None:
                raise ValueError("measuring the landmark detector takes detector=")
            return assemble(find_landmarks(material, detector, seed).estimates, targets=landmarks.LANDMARK_TARGETS)
        case _:
            assert_never(model)
    return assemble(findings.estimates, [model])


def find_nano_sam(material: Material, sam: PromptableSam, seed: int = 0) -> Findings:
    """Measure a SAM's answers and the ceilings of its decoder."""
    pictures = composite_pictures(material.composites)
    if material.natural is not None:
        pictures += natural_pictures(material.natural.images, material.natural.segments, _SIDE)
    answers = nano_sam.measure_nano_sam(pictures, sam, seed)
    ceilings = ceiling.measure_ceilings(pictures, sam)
    return Findings(
        tables={"nano_sam": answers, "ceilings": ceilings},
        estimates=nano_sam.estimate_nano_sam(answers, ceilings, seed),
    )


def find_parser(material: Material, face_parser: FaceParser, seed: int = 0) -> Findings:
    """Measure a face parser."""
    table = parser.measure_parser(material.composites, face_parser)
    return Findings(tables={"parser": table}, estimates=parser.estimate_parser(table, seed) if len(table) else {})


def find_generator(material: Material, prefix: FrozenPrefix, ladder: pd.DataFrame, seed: int = 0) -> Findings:
    """Measure the references of the prefix; the ladder's rungs `chain` and `clean_reference` give their prompts."""
    tables = {
        "references": generator.measure_references(
            material.composites, draw_references(material.composites, prefix), material.mean_face
        ),
        "prompts": generator.pair_prompts(ladder),
    }
    return Findings(tables=tables, estimates=generator.estimate_generator(tables, seed))


def find_locator(material: Material, locator: FaceLocator, seed: int = 0) -> Findings:
    """Measure a face locator on scenes and on photographs without people.

    Raises:
        ValueError: if the material has none.
    """
    if material.faces_to_locate is None:
        raise ValueError("measuring the face locator takes material with faces_to_locate")
    scenes = face_locator.measure_scenes(material.faces_to_locate, locator, seed)
    photographs = face_locator.measure_photographs(material.faces_to_locate, locator)
    return Findings(
        tables={"scenes": scenes, "photographs": photographs},
        estimates=face_locator.estimate_locator(scenes, photographs, seed),
    )


def find_landmarks(material: Material, detector: LandmarkDetector, seed: int = 0) -> Findings:
    """Measure a landmark detector."""
    tables = {
        "landmarks": landmarks.measure_landmarks(material.composites, detector),
        "covered_landmarks": landmarks.measure_covered(material.composites, detector),
    }
    return Findings(
        tables=tables,
        estimates=landmarks.estimate_landmarks(tables["landmarks"], tables["covered_landmarks"], seed),
    )


def draw_references(
    images: Sequence[LadderImage], prefix: FrozenPrefix, at_once: int = 8
) -> list[UInt8[ndarray, "_ _ 3"]]:
    """Let the prefix generate the reference of every composite, from its own parsing."""
    drawn = []
    with torch.no_grad():
        for first in range(0, len(images), at_once):
            batch = images[first : first + at_once]
            stages = prefix.run([entry.image for entry in batch], [entry.row.id for entry in batch])
            drawn += [stage.reference for stage in stages]
    return drawn
