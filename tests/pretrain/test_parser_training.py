from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from s3pot.parsing.classes import CLASSES
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import list_faces, load_faces, pictures
from s3pot.pretrain.loop import Phase, PretrainConfig, pretrain
from s3pot.pretrain.parser_training import PARSER_SCHEDULE, ParserBatches, draw_batch, labels, parser_loss
from s3pot.pretrain.samples import draw_sample
from tests.faces import draw_face, draw_faces, make_cutouts
from tests.stand_ins import answering

SMALL = Phase(size=64, steps=1, batch=3)


@pytest.fixture(scope="module")
def batches() -> ParserBatches:
    return ParserBatches(draw_faces(3, 64), make_cutouts())


def test_a_batch_holds_pictures_and_labels(batches: ParserBatches) -> None:
    batch = batches(0, SMALL)
    assert batch["image"].shape == (3, 3, 64, 64)
    assert batch["image"].dtype == torch.float32
    assert 0.0 <= batch["image"].min() < batch["image"].max() <= 1.0
    assert batch["parsing"].shape == (3, 64, 64)
    assert batch["parsing"].dtype == torch.int64
    assert set(batch["parsing"].unique().tolist()) <= set(range(12))


def test_a_step_always_gives_the_same_batch(batches: ParserBatches) -> None:
    first, again, other = batches(5, SMALL), batches(5, SMALL), batches(6, SMALL)
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["parsing"], again["parsing"])
    assert not torch.equal(first["image"], other["image"])


def test_labels_are_those_of_the_clean_face_under_the_occluder(batches: ParserBatches) -> None:
    drawn = draw_batch(batches.faces, batches.cutouts, 0, Phase(size=64, steps=1, batch=6), 0, "pretrain/parser", 0.7)
    batch = batches(0, Phase(size=64, steps=1, batch=6))
    assert sum(sample.occluder.any() for sample in drawn) >= 2
    for row, sample in enumerate(drawn):
        assert torch.equal(batch["image"][row], pictures([sample.image])[0])
        assert torch.equal(batch["parsing"][row], torch.from_numpy(sample.parsing).long())


def test_the_samples_of_a_step_do_not_depend_on_the_batch_size(batches: ParserBatches) -> None:
    small, large = batches(2, SMALL), batches(2, Phase(size=64, steps=1, batch=5))
    assert torch.equal(large["image"][:3], small["image"])
    sample = draw_sample(
        batches.faces,
        batches.cutouts,
        size=64,
        seed=0,
        stage="pretrain/parser",
        index=2 * 1024 + 1,
        occluded_share=0.7,
    )
    assert torch.equal(small["image"][1], pictures([sample.image])[0])


def test_pictures_and_labels_by_hand() -> None:
    image, _ = draw_face(32)
    assert pictures([image]).shape == (1, 3, 32, 32)
    assert pictures([image])[0, 2, 5, 7].item() == pytest.approx(image[5, 7, 2] / 255)
    sample = draw_sample(draw_faces(1, 32), make_cutouts(), size=32, seed=0, stage="t", index=0, occluded_share=0.0)
    assert torch.equal(labels([sample, sample])[1], torch.from_numpy(sample.parsing.astype(np.int64)))


def test_the_loss_of_a_perfect_parser_is_zero() -> None:
    target = torch.from_numpy(draw_face(32)[1].astype(np.int64))[None]
    logits = 30.0 * nn.functional.one_hot(target, 12).permute(0, 3, 1, 2).float()
    terms = parser_loss(answering(FaceParser, logits), {"image": torch.zeros(1, 3, 32, 32), "parsing": target})
    assert terms["loss"].item() == pytest.approx(0.0, abs=1e-4)


def test_the_loss_by_hand() -> None:
    # Two pixels, background and lip, and a parser that holds all twelve classes for equally likely.
    target = torch.tensor([[[0, CLASSES.index("lip")]]])
    terms = parser_loss(
        answering(FaceParser, torch.zeros(1, 12, 1, 2)), {"image": torch.zeros(1, 3, 1, 2), "parsing": target}
    )
    assert terms["cross_entropy"].item() == pytest.approx(np.log(12))
    # Each of the two classes: overlap 1/12, predicted mass 2/12, true mass 1, both smoothed by 1.
    dice = 1 - (2 / 12 + 1) / (2 / 12 + 1 + 1)
    assert terms["dice"].item() == pytest.approx(dice)
    assert terms["loss"].item() == pytest.approx(np.log(12) + dice)


def test_classes_that_are_not_there_do_not_count_in_dice() -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    logits = torch.zeros(1, 12, 8, 8)
    logits[:, 0] = 30.0
    terms = parser_loss(answering(FaceParser, logits), {"image": torch.zeros(1, 3, 8, 8), "parsing": target})
    assert terms["dice"].item() == pytest.approx(0.0, abs=1e-6)


def test_only_the_loss_carries_a_gradient(batches: ParserBatches) -> None:
    torch.manual_seed(0)
    parser = FaceParser()
    terms = parser_loss(parser, batches(0, Phase(size=32, steps=1, batch=1)))
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]
    terms["loss"].backward()
    assert all(weight.grad is not None for weight in parser.parameters())


def test_a_few_steps_lower_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parser = FaceParser()
    image, parsing = draw_face(32)
    batch = {"image": pictures([image]), "parsing": torch.from_numpy(parsing).long()[None]}
    config = PretrainConfig(phases=(Phase(size=32, steps=8, batch=1),), learning_rate=3e-3, average=0.0)
    before = parser_loss(parser, batch)["loss"].item()
    trained = pretrain(
        parser, lambda step, phase: batch, partial(parser_loss, parser), config, tmp_path / "c.pt", lambda *given: None
    )
    assert parser_loss(trained, batch)["loss"].item() < before - 0.3


def test_the_schedule_ends_at_the_working_size() -> None:
    assert PARSER_SCHEDULE.phases[-1].size == 256


def test_a_batch_of_real_faces(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    batch = ParserBatches(load_faces(root, list_faces(root, "dev")[:2], 64), make_cutouts())(0, SMALL)
    for name in ("skin", "nose", "lip", "hair"):
        assert (batch["parsing"] == CLASSES.index(name)).any(), name
