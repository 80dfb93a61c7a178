import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from s3pot.locator import FaceLocator, FaceMaps, LocatedFace, decode_faces
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import pictures
from s3pot.pretrain.locator_scenes import SceneMaterial, draw_scene
from s3pot.pretrain.locator_training import (
    LOCATOR_SCHEDULE,
    LocatorBatches,
    focal_loss,
    locator_loss,
    start_from_parser,
    target_maps,
)
from s3pot.pretrain.loop import Phase, PretrainConfig, pretrain
from tests.faces import draw_faces, make_cutouts

SMALL = Phase(size=64, steps=1, batch=3)
FACE = LocatedFace(x=29.5, y=43.5, side=48.0, roll=0.2)


class Fixed(FaceLocator):
    """Answers what it is told."""

    def __init__(self, maps: FaceMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, picture: Tensor) -> FaceMaps:
        return self.maps


@pytest.fixture(scope="module")
def batches() -> LocatorBatches:
    background = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return LocatorBatches(
        SceneMaterial(faces=draw_faces(3, 64), portraits=[], cutouts=make_cutouts(), backgrounds=[background])
    )


class TestTargets:
    def test_by_hand(self) -> None:
        # (29.5 + 0.5) / 8 - 0.5 = 3.25 and 5.0: cell 3 of row 5; sigma is max(0.8, 0.06 x 6 cells) = 0.8.
        maps = target_maps([FACE], 64)
        assert maps["heat"].shape == (8, 8)
        assert maps["heat"][5, 3] == 1.0
        assert maps["heat"][5, 4].item() == pytest.approx(math.exp(-1 / (2 * 0.64)))
        assert maps["offset"][:, 5, 3].tolist() == pytest.approx([0.25, 0.0])
        assert maps["offset"][:, 4, 4].tolist() == pytest.approx([-0.75, 1.0])
        assert maps["log_side"][5, 3].item() == pytest.approx(math.log(48 / 64))
        assert maps["turn"][:, 5, 3].tolist() == pytest.approx([math.sin(0.2), math.cos(0.2)])
        assert maps["near"][5, 3] == 1.0
        assert maps["near"].count_nonzero() == 1

    def test_of_two_faces_the_nearer_one_counts(self) -> None:
        other = LocatedFace(x=51.5, y=43.5, side=24.0)
        maps = target_maps([FACE, other], 64)
        assert (maps["heat"] == 1.0).nonzero().tolist() == [[5, 3], [5, 6]]
        assert maps["log_side"][5, 3].item() == pytest.approx(math.log(48 / 64))
        assert maps["log_side"][5, 6].item() == pytest.approx(math.log(24 / 64))

    def test_nobody_is_zero_everywhere(self) -> None:
        assert all(not values.any() for values in target_maps([], 64).values())

    def test_what_is_asked_for_decodes_to_the_face(self) -> None:
        maps = target_maps([FACE], 64)
        logits = torch.logit(maps["heat"].clamp(1e-6, 0.999))
        [face] = decode_faces(FaceMaps(logits, maps["offset"], maps["log_side"], maps["turn"]))
        assert (face.x, face.y, face.side, face.roll) == pytest.approx((29.5, 43.5, 48.0, 0.2), abs=1e-4)


class TestBatches:
    def test_hold_pictures_and_targets_of_their_scenes(self, batches: LocatorBatches) -> None:
        batch = batches(2, SMALL)
        assert batch["image"].shape == (3, 3, 64, 64)
        for place in range(3):
            index = 2 * 1024 + place
            scene = draw_scene(batches.material, size=64, seed=0, stage="pretrain/locator", index=index)
            assert torch.equal(batch["image"][place], pictures([scene.image])[0])
            for name, values in target_maps(scene.faces, 64).items():
                assert torch.equal(batch[name][place], values)

    def test_a_resumed_training_sees_the_same(self, batches: LocatorBatches) -> None:
        first, again, other = batches(5, SMALL), batches(5, SMALL), batches(6, SMALL)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["image"], other["image"])


class TestLoss:
    def test_of_a_perfect_answer_is_about_zero(self) -> None:
        target = {name: values[None] for name, values in target_maps([FACE], 64).items()}
        logits = torch.where(target["heat"] >= 1.0, 15.0, -15.0)
        maps = FaceMaps(logits, target["offset"], target["log_side"], target["turn"])
        terms = locator_loss(Fixed(maps), {"image": torch.zeros(1, 3, 64, 64), **target})
        assert terms["loss"].item() == pytest.approx(0.0, abs=1e-4)

    def test_terms_by_hand(self) -> None:
        target = {name: values[None] for name, values in target_maps([FACE], 64).items()}
        turn = torch.zeros(1, 2, 8, 8)
        turn[:, 1] = 1.0
        maps = FaceMaps(torch.zeros(1, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8), turn)
        terms = locator_loss(Fixed(maps), {"image": torch.zeros(1, 3, 64, 64), **target})
        # One cell counts: a quarter of a cell off, in a crop of six cells.
        assert terms["center"].item() == pytest.approx(0.25 / 6)
        assert terms["side"].item() == pytest.approx(-math.log(0.75))
        assert terms["turn"].item() == pytest.approx(math.sin(0.2) + 1 - math.cos(0.2))
        expected = terms["score"] + 8 * terms["center"] + 2 * terms["side"] + terms["turn"]
        assert terms["loss"].item() == pytest.approx(expected.item())

    def test_focal_by_hand(self) -> None:
        heat = torch.tensor([[[1.0, 0.5, 0.0]]])
        half, log_half = 0.5, math.log(0.5)
        expected = -(half**2 * log_half + 0.5**4 * half**2 * log_half + half**2 * log_half)
        assert focal_loss(torch.zeros(1, 1, 3), heat).item() == pytest.approx(expected)

    def test_a_batch_without_faces_still_teaches_that_there_are_none(self) -> None:
        target = {name: values[None] for name, values in target_maps([], 64).items()}
        torch.manual_seed(0)
        terms = locator_loss(FaceLocator(), {"image": torch.rand(1, 3, 64, 64), **target})
        assert terms["loss"].item() > 0
        assert terms["loss"].isfinite()
        assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]


def test_it_starts_with_the_eyes_of_the_parser() -> None:
    torch.manual_seed(0)
    parser = FaceParser()
    locator = start_from_parser(FaceLocator(), parser)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for stage in ("stage2", "stage4", "stage8"):
            expected = parser.get_submodule(stage)(picture)
            assert torch.equal(locator.get_submodule(stage)(picture), expected)
            picture = expected


def test_a_few_steps_lower_the_loss(batches: LocatorBatches, tmp_path: Path) -> None:
    torch.manual_seed(0)
    locator = FaceLocator()
    batch = batches(0, SMALL)
    config = PretrainConfig(phases=(Phase(size=64, steps=8, batch=3),), learning_rate=2e-3, average=0.0)
    before = locator_loss(locator, batch)["loss"].item()
    trained = pretrain(
        locator, lambda step, phase: batch, partial(locator_loss, locator), config, tmp_path / "c.pt", lambda *_: None
    )
    assert locator_loss(trained, batch)["loss"].item() < 0.7 * before


def test_the_schedule_ends_at_the_working_size() -> None:
    assert LOCATOR_SCHEDULE.phases[-1].size == 160
