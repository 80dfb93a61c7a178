from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.pretrain.faces import pictures
from s3pot.pretrain.loop import Phase, PretrainConfig, pretrain
from s3pot.pretrain.sam_training import SAM_SCHEDULE, NaturalBank, SamBatches
from s3pot.pretrain.samples import draw_sample
from s3pot.pretrain.supervised_training import SUPERVISED_SCHEDULE, SupervisedBatches, supervised_loss
from tests.faces import draw_faces, make_cutouts
from tests.stand_ins import answering

SMALL = Phase(size=64, steps=1, batch=8)


@pytest.fixture(scope="module")
def batches() -> SupervisedBatches:
    return SupervisedBatches(draw_faces(3, 64), make_cutouts())


def test_a_batch_holds_pictures_and_truth(batches: SupervisedBatches) -> None:
    batch = batches(0, SMALL)
    assert batch["image"].shape == (8, 3, 64, 64)
    assert 0.0 <= batch["image"].min() < batch["image"].max() <= 1.0
    assert batch["target"].shape == (8, 32, 32)
    assert batch["target"].dtype == torch.float32
    assert 0.0 == batch["target"].min() < batch["target"].max() == 1.0


def test_the_target_is_the_occluder_inside_the_face(batches: SupervisedBatches) -> None:
    wide = Phase(size=64, steps=1, batch=40)
    batch = batches(3, wide)
    empty = 0
    for place in range(40):
        sample = draw_sample(
            batches.faces,
            batches.cutouts,
            size=64,
            seed=0,
            stage="pretrain/sam",
            index=3 * 1024 + place,
            occluded_share=0.75,
        )
        truth = (sample.occluder & sample.region).reshape(32, 2, 32, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(batch["target"][place].numpy(), truth, atol=1e-6)
        empty += not truth.any()
    assert 3 <= empty <= 20, "decoys and clean faces are pictures without a target: a quarter of all"


def test_it_sees_the_very_pictures_nano_sam_sees(batches: SupervisedBatches) -> None:
    blank = NaturalBank(images=[np.zeros((50, 50, 3), np.uint8)], segments=[[np.zeros((50, 50), np.int32)]])
    theirs = SamBatches(batches.faces, batches.cutouts, blank)(2, SMALL)["image"] / 255.0
    ours = batches(2, SMALL)["image"]
    same = torch.isclose(ours, theirs, atol=1e-5).flatten(1).all(dim=1)
    natural = (theirs == 0).flatten(1).all(dim=1)
    assert same.any()
    assert (same | natural).all()


def test_the_schedule_is_that_of_nano_sam() -> None:
    assert SUPERVISED_SCHEDULE.phases == SAM_SCHEDULE.phases


def test_a_step_always_gives_the_same_batch(batches: SupervisedBatches) -> None:
    assert torch.equal(batches(5, SMALL)["target"], batches(5, SMALL)["target"])
    assert not torch.equal(batches(5, SMALL)["image"], batches(6, SMALL)["image"])


def test_the_loss_by_hand() -> None:
    # Two pictures of two places. Undecided everywhere: entropy log 2; predicted mass 1, overlaps 1/2 and 0, so Dice is
    # 1 - 2/3 and 1 - 1/2. Logit 0 is not above 0: nothing is predicted, and only the first picture has an occluder.
    target = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    terms = supervised_loss(
        answering(SupervisedSegmenter, torch.zeros(2, 1, 2)), {"image": torch.zeros(2, 3, 2, 4), "target": target}
    )
    assert terms["cross_entropy"].item() == pytest.approx(np.log(2))
    assert terms["dice"].item() == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert terms["loss"].item() == pytest.approx(np.log(2) + 5 / 12)
    assert terms["iou"].item() == 0.0
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]


def test_the_iou_is_that_of_pictures_with_an_occluder() -> None:
    # First picture: two of three places right; second: a false alarm on a clean face, which has no IoU.
    target = torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    logits = torch.tensor([[[9.0, 9.0, 9.0]], [[9.0, -9.0, -9.0]]])
    terms = supervised_loss(
        answering(SupervisedSegmenter, logits), {"image": torch.zeros(2, 3, 2, 6), "target": target}
    )
    assert terms["iou"].item() == pytest.approx(2 / 3)
    clean = supervised_loss(
        answering(SupervisedSegmenter, logits[1:]), {"image": torch.zeros(1, 3, 2, 6), "target": target[1:]}
    )
    assert clean["iou"].item() == 0.0


def test_a_few_steps_lower_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SupervisedSegmenter()
    image = np.full((32, 32, 3), 60, np.uint8)
    image[:16] = 220
    target = torch.zeros(1, 16, 16)
    target[:, :8] = 1.0
    batch = {"image": pictures([image]), "target": target}
    config = PretrainConfig(phases=(Phase(size=32, steps=8, batch=1),), learning_rate=3e-3, average=0.0)
    before = supervised_loss(model, batch)["loss"].item()
    trained = pretrain(
        model,
        lambda step, phase: batch,
        partial(supervised_loss, model),
        config,
        tmp_path / "c.pt",
        lambda *given: None,
    )
    assert supervised_loss(trained, batch)["loss"].item() < before - 0.2
