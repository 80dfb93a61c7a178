import inspect
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from s3pot.pretrain import generator_training
from s3pot.pretrain.faces import list_faces, load_faces
from s3pot.pretrain.generator_training import (
    FACE_WEIGHT,
    GENERATOR_SCHEDULE,
    GeneratorBatches,
    generator_loss,
    local_similarity,
)
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig, pretrain
from s3pot.reference.generator import ReferenceGenerator
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from tests.faces import draw_faces, make_cutouts

SMALL = Phase(size=64, steps=1, batch=3)


class Given(ReferenceGenerator):
    """A generator whose reference is given."""

    def __init__(self, reference: Tensor) -> None:
        nn.Module.__init__(self)
        self.reference = nn.Parameter(reference.clone())

    def forward(self, image: Tensor, parsing: Tensor) -> Tensor:
        return self.reference


@pytest.fixture(scope="module")
def batches() -> GeneratorBatches:
    return GeneratorBatches(draw_faces(3, 64), make_cutouts())


@pytest.fixture(scope="module")
def judge() -> PromptableSam:
    return PromptableSam(build_sam("nano", seed=1)).requires_grad_(False)


def flat_batch(value: float = 0.5, side: int = 32) -> Batch:
    """A grey picture whose left half is the face."""
    clean = torch.full((1, 3, side, side), value)
    region = torch.zeros(1, 1, side, side)
    region[..., : side // 2] = 1.0
    return {"image": clean, "clean": clean, "parsing": torch.zeros(1, side, side, dtype=torch.long), "region": region}


def test_a_batch_holds_occluded_and_clean_pictures(batches: GeneratorBatches) -> None:
    batch = batches(0, Phase(size=64, steps=1, batch=6))
    assert batch["image"].shape == batch["clean"].shape == (6, 3, 64, 64)
    assert batch["parsing"].shape == (6, 64, 64)
    assert batch["parsing"].dtype == torch.int64
    assert batch["region"].shape == (6, 1, 64, 64)
    assert set(batch["region"].unique().tolist()) == {0.0, 1.0}
    assert 0.0 <= batch["image"].min() < batch["image"].max() <= 1.0
    changed = (batch["image"] != batch["clean"]).flatten(1).any(dim=1)
    assert 2 <= changed.sum() <= 6


def test_a_step_always_gives_the_same_batch(batches: GeneratorBatches) -> None:
    first, again, other = batches(3, SMALL), batches(3, SMALL), batches(4, SMALL)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["clean"], other["clean"])


def test_the_clean_picture_is_the_perfect_reference(batches: GeneratorBatches, judge: PromptableSam) -> None:
    batch = batches(0, SMALL)
    perfect = generator_loss(Given(batch["clean"]), judge, batch)
    copied = generator_loss(Given(batch["image"]), judge, batch)
    assert perfect["loss"].item() == pytest.approx(0.0, abs=1e-5)
    assert copied["loss"] > perfect["loss"] + 0.01, "copying the occluder must cost something"


def test_pixel_and_gradient_terms_by_hand(judge: PromptableSam) -> None:
    batch = flat_batch()
    terms = generator_loss(Given(batch["clean"] + 0.1), judge, batch)
    assert terms["pixel"].item() == pytest.approx(0.1, abs=1e-5)
    assert terms["gradient"].item() == pytest.approx(0.0, abs=1e-6)
    # One column of 32 off by 0.1, at the right, outside the face: weight 1 of a mean of 2.5; two edges beside it.
    reference = batch["clean"].clone()
    reference[..., 24] += 0.1
    terms = generator_loss(Given(reference), judge, batch)
    assert terms["pixel"].item() == pytest.approx(0.1 / 32 / 2.5, rel=1e-3)
    assert terms["gradient"].item() == pytest.approx(2 * 0.1 / 31 / 2.5, rel=1e-3)
    # One row of 32 instead: the same for the pixels, and the two edges are horizontal.
    reference = batch["clean"].clone()
    reference[..., 24, :] += 0.1
    terms = generator_loss(Given(reference), judge, batch)
    assert terms["pixel"].item() == pytest.approx(0.1 / 32, rel=1e-3)
    assert terms["gradient"].item() == pytest.approx(2 * 0.1 / 31, rel=1e-3)


def test_local_similarity_is_that_of_scikit_image_away_from_the_border() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 20, 24, 3))
    second = 0.5 * first + 0.5 * second
    theirs = structural_similarity(
        first, second, win_size=7, channel_axis=2, data_range=1.0, full=True, use_sample_covariance=False
    )[1]
    ours = local_similarity(*(torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in (first, second)))
    inside = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy()[inside], theirs[inside], atol=1e-9)


def test_the_face_counts_four_times(judge: PromptableSam) -> None:
    batch = flat_batch()
    errors = []
    for column in (8, 24):
        reference = batch["clean"].clone()
        reference[..., column] += 0.1
        errors.append(generator_loss(Given(reference), judge, batch)["pixel"].item())
    assert errors[0] / errors[1] == pytest.approx(FACE_WEIGHT, rel=1e-3)
    assert FACE_WEIGHT == 4.0


def test_the_loss_is_the_weighted_sum_of_its_terms(batches: GeneratorBatches, judge: PromptableSam) -> None:
    batch = batches(0, SMALL)
    terms = generator_loss(Given(batch["image"]), judge, batch)
    structure = generator_training.STRUCTURE_WEIGHT * terms["structure"]
    expected = terms["pixel"] + terms["gradient"] + structure + generator_training.TOKEN_WEIGHT * terms["token"]
    assert terms["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert terms["token"] > 0
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]


def test_an_error_costs_the_same_under_an_occluder_and_beside_it(judge: PromptableSam) -> None:
    # Design 6: no weight may treat a place differently by a composite's alpha.
    assert "occluder" not in inspect.getsource(generator_loss)
    batch = flat_batch()
    reference = batch["clean"].clone()
    reference[..., 4:8, 4:8] += 0.2
    occluded = batch["image"].clone()
    occluded[..., 4:8, 4:8] = 0.0
    plain = generator_loss(Given(reference), judge, batch)
    under = generator_loss(Given(reference), judge, batch | {"image": occluded})
    assert plain["loss"].item() == pytest.approx(under["loss"].item(), abs=1e-7)


def test_the_gradient_reaches_the_generator_through_the_tokens_and_not_the_judge(
    batches: GeneratorBatches, judge: PromptableSam, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batches(0, SMALL)
    given = Given(batch["image"])
    generator_loss(given, judge, batch)["loss"].backward()
    with_tokens = given.reference.grad.clone()
    monkeypatch.setattr(generator_training, "TOKEN_WEIGHT", 0.0)
    given.reference.grad = None
    generator_loss(given, judge, batch)["loss"].backward()
    assert (with_tokens - given.reference.grad).abs().max() > 0
    assert all(weight.grad is None for weight in judge.parameters())


def test_two_steps_of_training_run(batches: GeneratorBatches, judge: PromptableSam, tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = ReferenceGenerator()
    before = generator.to_rgb.weight.detach().clone()
    reports: list[dict[str, float]] = []
    config = PretrainConfig(phases=(Phase(size=32, steps=1, batch=2), Phase(size=64, steps=1, batch=1)))
    trained = pretrain(
        generator,
        batches,
        partial(generator_loss, generator, judge),
        config,
        tmp_path / "c.pt",
        lambda step, terms: reports.append(terms),
    )
    assert 0 < reports[0]["loss"] < 5
    assert not torch.equal(trained.to_rgb.weight, before)
    assert all(weight.grad is not None for weight in generator.parameters())


def test_the_schedule_ends_at_the_working_size() -> None:
    assert GENERATOR_SCHEDULE.phases[-1].size == 256


def test_a_batch_of_real_faces(shared_data: Path) -> None:
    root = shared_data / "celebamask" / "train"
    batch = GeneratorBatches(load_faces(root, list_faces(root, "dev")[:2], 64), make_cutouts())(0, SMALL)
    assert 0.1 < batch["region"].mean() < 0.6
