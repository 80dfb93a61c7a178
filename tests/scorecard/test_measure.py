"""One model at a time: its rows, and nobody else's."""

from collections.abc import Callable

import numpy as np
import pytest

from s3pot.ladder import LadderImage
from s3pot.pretrain.sam_training import NaturalBank
from s3pot.scorecard.measure import EmbeddedModel, Material, measure_model
from tests.faces import draw_face
from tests.scorecard.conftest import KnownSam
from tests.stand_ins import DrawnFaceParser, drawn_prefix


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


@pytest.mark.parametrize("model", ["nano_sam", "parser", "generator"])
def test_a_missing_model_is_one_sentence(material: Material, model: EmbeddedModel) -> None:
    with pytest.raises(ValueError, match=r"takes (sam|parser|prefix)="):
        measure_model(model, material)
