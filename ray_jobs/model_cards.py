"""The numbers in the model cards: weights are measured as they were written, and the table goes into their card."""

import shutil
from pathlib import Path

import pandas as pd

from s3pot.chain import ChainConfig
from s3pot.embedded import (
    WEIGHT_FILES,
    embedded_folder,
    file_hash,
    load_generator,
    load_landmark_detector,
    load_locator,
    load_nano_sam,
    load_parser,
)
from s3pot.ladder import LadderImage, read_ladder_images
from s3pot.parsing.network import PARSER_SIZE
from s3pot.prefix import FrozenPrefix
from s3pot.pretrain.material import Material, read_excluded
from s3pot.pretrain.sam_training import load_natural
from s3pot.scorecard import measure
from s3pot.scorecard.card import write_measured_section
from s3pot.scorecard.dev_scenes import SCENES, load_dev_material
from s3pot.scorecard.generator import mean_face
from s3pot.scorecard.measure import EmbeddedModel
from s3pot.scorecard.table import Row

PHOTOGRAPHS_OF_PEOPLE = Path("experiments/natural_with_people.txt")


def write_card(model: EmbeddedModel, out: Path, manifest: Path, material: Material, scenes: int = SCENES) -> Path:
    """Measure weights as they were written and put the numbers into the model card beside them.

    Args:
        model: which one; a generator's prompts take parser and nano SAM from `out`, too.
        out: folder of weights; a card that is not there yet is copied from the installed weights.
        manifest: composites made by `data`, at the working size; a locator is measured on scenes of fold `dev` instead.
        material: what was trained on; gives the mean face that references are compared with, and the folder of data.
        scenes: number of the locator's scenes with nothing on the face, and again with occluders.

    Raises:
        ValueError: for a model that the scorecard has no rows for.
    """
    path = out / WEIGHT_FILES[model]
    if model == "locator":
        rows, what = _measure_locator(path, material, scenes), f"2 x {scenes} scenes of fold dev"
    else:
        images = read_ladder_images(pd.read_parquet(manifest), PARSER_SIZE)
        rows, what = _measure_on(images, model, out, material), f"{len(images)} pictures of {manifest}"
    card = path.with_suffix(".md")
    if not card.exists():
        shutil.copyfile(embedded_folder() / card.name, card)
    write_measured_section(card, rows, f"{what}, weights {file_hash(path)}")
    return card


def _measure_locator(path: Path, material: Material, scenes: int) -> list[Row]:
    to_locate = load_dev_material(material.data, material.excluded, read_excluded(PHOTOGRAPHS_OF_PEOPLE), scenes)
    measured_on = measure.Material(composites=[], faces_to_locate=to_locate)
    return measure.measure_model("locator", measured_on, locator=load_locator(path))


def _measure_on(images: list[LadderImage], model: EmbeddedModel, out: Path, material: Material) -> list[Row]:
    natural_val = material.data / "natural" / "val"
    measured_on = measure.Material(
        composites=images,
        natural=load_natural(natural_val) if natural_val.is_dir() else None,
        mean_face=mean_face(material.faces.images),
    )
    files = {part: out / name for part, name in WEIGHT_FILES.items()}
    match model:
        case "parser":
            return measure.measure_model("parser", measured_on, parser=load_parser(files[model]))
        case "nano_sam":
            return measure.measure_model("nano_sam", measured_on, sam=load_nano_sam(files[model]))
        case "generator":
            parser, sam = load_parser(files["parser"]), load_nano_sam(files["nano_sam"])
            prefix = FrozenPrefix(parser, load_generator(files[model]), sam, ChainConfig().prefix)
            return measure.measure_model("generator", measured_on, prefix=prefix)
        case "landmarks":
            return measure.measure_model("landmarks", measured_on, detector=load_landmark_detector(files[model]))
        case _:
            raise ValueError(f"the scorecard has no rows for {model}")
