"""One model at a time: its rows, and nobody else's."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from s3pot.ladder import LadderImage
from s3pot.locator import LocatedFace
from s3pot.pretrain.sam_training import NaturalBank
from s3pot.reference.landmarks import LandmarkDetector
from s3pot.scorecard.dev_scenes import LocatorMaterial
from s3pot.scorecard.landmarks import LANDMARK_TARGETS, estimate_landmarks
from s3pot.scorecard.locator import LOCATOR_TARGETS, estimate_locator
from s3pot.scorecard.measure import EmbeddedModel, Material, measure_model
from tests.faces import draw_face, draw_faces, make_cutouts
from tests.scorecard.conftest import KnownSam
from tests.stand_ins import DrawnFaceParser, FixedLocator, drawn_prefix


@pytest.fixture
def material(make_composite: Callable[..., LadderImage]) -> Material:
    segments = np.zeros((40, 40), dtype=np.int32)
    segments[:20] = 1
    natural = NaturalBank(images=[np.zeros((40, 40, 3), dtype=np.uint8)], segments=[[segments]])
    return Material(composites=[make_composite("a"), make_composite("b")], natural=natural)


def test_the_sam_gets_composites_and_photographs(material: Material, known_sam: KnownSam) -> None:
    rows = {row.target.key: row for row in measure_model("nano_sam", material, sam=known_sam)}
    assert {row.target.model for row in rows.values()} == {"nano_sam"}
    assert not [key for key, row in rows.items() if row.met == "not measured"]
    assert rows["sam/occluder/3+3"].met == "yes"
    segment = rows["sam/segment/3+3"].estimate
    assert segment is not None
    assert (segment.mean, segment.n) == (0.0, 2)  # nothing is red in the photograph


def test_the_parser_needs_nothing_else(material: Material) -> None:
    rows = measure_model("parser", material, parser=DrawnFaceParser())
    assert {row.target.model for row in rows} == {"parser"}
    assert not [row for row in rows if row.met == "not measured"]


def test_the_generator_is_measured_within_its_prefix(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    face, parsing = draw_face(256)
    truth = np.zeros((256, 256), dtype=bool)
    truth[100:160, 100:160] = True
    image = face.copy()
    image[truth] = 0
    changed = {"image": image, "clean": face, "parsing": parsing}
    for name, value in changed.items():
        object.__setattr__(entry, name, value)
    object.__setattr__(entry.truth, "occlusion", truth)
    object.__setattr__(entry.truth, "region", truth | (parsing == 6))
    mean = np.full((256, 256, 3), 100, dtype=np.uint8)
    rows = measure_model("generator", Material(composites=[entry], mean_face=mean), prefix=drawn_prefix())
    measured = {row.target.key for row in rows if row.met != "not measured"}
    assert {f"generator/{metric}_over_mean_face" for metric in ("ssim", "l1")} <= measured
    assert {"generator/recall_loss", "generator/ssim_outside", "generator/ssim_outside_face"} <= measured


def test_every_row_of_the_locator_is_filled() -> None:
    photograph = np.zeros((40, 60, 3), dtype=np.uint8)
    to_locate = LocatorMaterial(
        faces=draw_faces(2, 128),
        cutouts=make_cutouts(),
        photographs={"a": photograph},
        others={"b": photograph},
        scenes=3,
    )
    everywhere = FixedLocator(LocatedFace(x=0.5, y=0.5, side=0.5, score=0.9)).eval()
    rows = measure_model("locator", Material(composites=[], faces_to_locate=to_locate), locator=everywhere)
    assert [row.target.key for row in rows] == [target.key for target in LOCATOR_TARGETS]
    assert {row.met for row in rows} == {"reported"}


def test_every_row_of_the_landmarks_is_filled(make_composite: Callable[..., LadderImage]) -> None:
    entry = make_composite()
    object.__setattr__(entry, "parsing", draw_face(64)[1])
    assert entry.truth.occlusion is not None
    entry.truth.occlusion[8:30, 8:40] = True  # over the left brow and eye
    rows = measure_model("landmarks", Material(composites=[entry]), detector=LandmarkDetector().eval())
    assert [row.target.key for row in rows] == [target.key for target in LANDMARK_TARGETS]
    assert {row.met for row in rows} == {"reported"}


def test_rows_are_keys_of_estimates() -> None:
    """An estimate without a row would vanish without a word."""
    scenes = pd.DataFrame(
        {"picture": ["clean", "occluded"], "face_id": ["a", "a"], "cutout_id": ["", "c"]}
        | {name: [1.0, 1.0] for name in ("found", "center", "side_factor", "roll", "score")}
    )
    photographs = pd.DataFrame({"seen": ["training", "other"], "face_id": ["a", "b"], "answered": [0.0, 1.0]})
    assert set(estimate_locator(scenes, photographs)) == {target.key for target in LOCATOR_TARGETS}
    marks = pd.DataFrame({"face_id": ["a"], "distance": [1.0], "near": [1.0], "confidence": [1.0]})
    covered = pd.DataFrame({"face_id": ["a"], "cutout_id": ["c"], "clean": [1.0], "occluded": [1.0], "fall": [0.0]})
    assert set(estimate_landmarks(marks, covered)) == {target.key for target in LANDMARK_TARGETS}


def test_a_locator_needs_scenes(material: Material) -> None:
    with pytest.raises(ValueError, match="faces_to_locate"):
        measure_model("locator", material, locator=FixedLocator())


@pytest.mark.parametrize("model", ["nano_sam", "parser", "generator", "locator", "landmarks"])
def test_a_missing_model_is_one_sentence(material: Material, model: EmbeddedModel) -> None:
    with pytest.raises(ValueError, match=r"takes (sam|parser|prefix|locator|detector)="):
        measure_model(model, material)
