import inspect
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from s3pot.images import encode_jpeg
from s3pot.pretrain import sam_training
from s3pot.pretrain.faces import pictures
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig, pretrain
from s3pot.pretrain.prompt_targets import SET_SIZES
from s3pot.pretrain.sam_training import (
    PAIRS,
    SETS_PER_IMAGE,
    NaturalBank,
    SamBatches,
    degrade,
    encode_pixels,
    load_natural,
    mask_terms,
    pad_clicks,
    sam_loss,
)
from s3pot.pretrain.samples import draw_sample
from s3pot.sam.promptable import PromptableSam
from s3pot.sam.sizes import build_sam
from tests.faces import draw_face, draw_faces, make_cutouts

SMALL = Phase(size=64, steps=1, batch=3)


def natural_bank() -> NaturalBank:
    """Two pictures of four coloured quarters, one upright and one lying, each segmented twice."""
    images, segments = [], []
    for height, width in ((80, 100), (100, 80)):
        quarters = np.zeros((height, width), dtype=np.int32)
        quarters[height // 2 :] += 1
        quarters[:, width // 2 :] += 2
        palette = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]], dtype=np.uint8)
        images.append(palette[quarters])
        segments.append([quarters, (quarters > 1).astype(np.int32)])
    return NaturalBank(images=images, segments=segments)


@pytest.fixture(scope="module")
def batches() -> SamBatches:
    return SamBatches(draw_faces(3, 64), make_cutouts(), natural_bank())


@pytest.fixture(scope="module")
def nano() -> PromptableSam:
    return PromptableSam(build_sam("nano", seed=1))


def equal(first: Batch, other: Batch) -> bool:
    return first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("step", "most"), [(0, 6), (1, 32), (2, 256), (3, 6)])
def test_shapes_of_a_batch_by_regime(batches: SamBatches, step: int, most: int) -> None:
    batch = batches(step, SMALL)
    sets = 3 * SETS_PER_IMAGE
    assert batch["image"].shape == (3, 3, 64, 64)
    assert 5.0 < batch["image"].max() <= 255.0, "pixels are 0..255, as SAM's mean and deviation expect"
    assert batch["target"].shape == (sets, 32, 32)
    assert 0.0 <= batch["target"].min() < batch["target"].max() <= 1.0
    length = batch["points"].shape[1]
    assert most / 4 < length <= most
    assert batch["points"].shape == (sets, length, 2)
    assert batch["polarity"].shape == batch["valid"].shape == (sets, length)
    assert batch["valid"].any(dim=1).all(), "every set holds a click"
    assert batch["valid"].all(dim=0).any(), "padding is at the end"
    assert 1 <= len(batch["rendering_a"]) == len(batch["rendering_b"]) <= PAIRS


def test_a_step_always_gives_the_same_batch(batches: SamBatches) -> None:
    assert equal(batches(4, SMALL), batches(4, SMALL))
    assert not equal(batches(4, SMALL), batches(8, SMALL))


def test_points_are_given_in_the_model_frame() -> None:
    # The same token centre, whatever the size of the picture: (col + 0.5) * patch - 0.5 in model pixels, where a token
    # of a 64 px picture is 32 model pixels wide.
    made = SamBatches(draw_faces(2, 64), make_cutouts(), natural_bank())
    at_centers = 0
    for step in range(0, 24, 4):
        batch = made(step, SMALL)
        for points, valid in zip(batch["points"], batch["valid"], strict=True):
            offset = (points[valid] + 0.5) % 32
            at_centers += bool((offset - 16).abs().max() < 1e-3)
    assert at_centers >= 10, "about six in ten sets lie at token centres"


def test_clicks_of_few_agree_with_their_target() -> None:
    # Regime "few" has no wrong clicks: positives lie on the target, negatives beside it.
    made = SamBatches(draw_faces(2, 128), make_cutouts(), natural_bank())
    agreed = []
    for step in (0, 3, 4):
        batch = made(step, Phase(size=128, steps=1, batch=4))
        for row, target in enumerate(batch["target"]):
            valid = batch["valid"][row]
            places = (batch["points"][row][valid] / 256 * 64).long().clamp(0, 63)
            value = target[places[:, 1], places[:, 0]]
            agreed += ((value > 0.5) == (batch["polarity"][row][valid] == 1)).tolist()
    assert np.mean(agreed) > 0.9  # half-resolution targets are soft at their edges


def test_renderings_are_one_unoccluded_face_and_its_degraded_copy(batches: SamBatches) -> None:
    batch = batches(0, Phase(size=64, steps=1, batch=8))
    first, second = batch["rendering_a"], batch["rendering_b"]
    assert len(first) == PAIRS
    difference = (first - second).abs().mean(dim=(1, 2, 3))
    assert (difference > 0.2).all()
    assert (difference < 40).all()
    samples = [
        draw_sample(
            batches.faces,
            batches.cutouts,
            size=64,
            seed=0,
            stage="pretrain/sam",
            index=place,
            occluded_share=0.75,
        )
        for place in range(8)
    ]
    clean = pictures([sample.clean for sample in samples]) * 255.0
    assert all((rendering == clean).flatten(1).all(dim=1).any() for rendering in first)
    occluded = sum(sample.occluder.any() for sample in samples)
    assert occluded > 8 - PAIRS, "some of the renderings belong to occluded samples"


def test_no_term_treats_renderings_differently_where_an_occluder_lies() -> None:
    # Design 6: composites' truth enters as a target of the promptable loss, nowhere else.
    source = inspect.getsource(sam_training)
    assert "occluder" not in inspect.getsource(sam_loss)
    assert "occluder" not in inspect.getsource(degrade)
    assert "sample.occluder" not in source
    assert "sample.region" not in source


def test_natural_pictures_are_cropped_with_their_segments(batches: SamBatches) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        image, targets = batches._natural(64, rng)
        assert image.shape == (64, 64, 3)
        for target in targets:
            inner = cv2.erode(target.inside.astype(np.uint8), np.ones((7, 7))) > 0
            outer = ~cv2.dilate(target.inside.astype(np.uint8), np.ones((7, 7))).astype(bool)
            inside = {tuple(color) for color in image[inner] // 64}
            assert inside.isdisjoint({tuple(color) for color in image[outer] // 64}), "colours tell segments apart"


def test_a_picture_without_targets_is_one_segment_as_a_whole() -> None:
    blank = NaturalBank(images=[np.zeros((50, 50, 3), np.uint8)], segments=[[np.zeros((50, 50), np.int32)]])
    made = SamBatches(draw_faces(1, 64), make_cutouts(), blank)
    batch = made(0, Phase(size=64, steps=1, batch=40))
    whole = (batch["target"] == 1).all(dim=(1, 2))
    assert SETS_PER_IMAGE <= whole.sum() <= 13 * SETS_PER_IMAGE, "15 % of 40 pictures are natural"
    assert (batch["polarity"][whole][batch["valid"][whole]] == 1).all()


def test_pad_clicks_by_hand() -> None:
    one = np.array([[1.0, 2.0]], np.float32), np.array([1])
    three = np.array([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], np.float32), np.array([1, 0, 0])
    points, polarity, valid = pad_clicks([one, three], 6)
    assert points.tolist() == [[[1, 2], [0, 0], [0, 0]], [[3, 4], [5, 6], [7, 8]]]
    assert polarity.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert valid.tolist() == [[True, False, False], [True, True, True]]
    assert (points.dtype, polarity.dtype, valid.dtype) == (torch.float32, torch.int64, torch.bool)
    assert pad_clicks([one, three], 2)[0].shape == (2, 2, 2)


def test_degrade_softens_and_tints_but_keeps_the_face(rng: np.random.Generator) -> None:
    image, _ = draw_face(256)  # blur is a share of the side: a small picture is hardly softened
    sharp = np.clip(image + rng.integers(-30, 30, image.shape), 0, 255).astype(np.uint8)

    def detail(picture: np.ndarray) -> float:
        return float(cv2.Laplacian(picture.astype(np.float32), -1).std())

    for seed in range(5):
        soft = degrade(sharp, np.random.default_rng(seed))
        assert soft.shape == sharp.shape
        assert soft.dtype == np.uint8
        assert detail(soft) < 0.9 * detail(sharp)
        assert np.corrcoef(soft.ravel(), image.ravel())[0, 1] > 0.85
    assert np.array_equal(degrade(sharp, np.random.default_rng(1)), degrade(sharp, np.random.default_rng(1)))


def test_encode_pixels_equals_encode_at_model_size(nano: PromptableSam) -> None:
    image, _ = draw_face(256)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        found = encode_pixels(nano, pixels)
    torch.testing.assert_close(found, nano.encode([image])[0], rtol=1e-3, atol=1e-3)


def test_mask_terms_by_hand() -> None:
    logits = torch.zeros(2, 1, 2)
    target = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    terms = mask_terms(logits, target)
    assert terms["cross_entropy"].item() == pytest.approx(np.log(2))
    # Predicted mass 1 each; overlaps 1/2 and 0: Dice 1 - 2/3 and 1 - 1/2.
    assert terms["dice"].item() == pytest.approx((1 / 3 + 1 / 2) / 2)
    right = mask_terms((target - 0.5) * 60, target)
    assert right["cross_entropy"].item() == pytest.approx(0.0, abs=1e-6)
    assert right["dice"].item() == pytest.approx(0.0, abs=1e-6)


def test_the_loss_reports_its_terms_and_reaches_every_trained_part(nano: PromptableSam, batches: SamBatches) -> None:
    nano.zero_grad()
    terms = sam_loss(nano, batches(0, SMALL))
    assert set(terms) == {"loss", "iou", "invariance", "cross_entropy", "dice"}
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]
    assert 0.0 <= terms["iou"] <= 1.0
    terms["loss"].backward()
    idle = {
        name.removeprefix("sam.")
        for name, weight in nano.named_parameters()
        if weight.grad is None or not weight.grad.any()
    }
    untrained = ("prompt_encoder.point_embeddings.2", "prompt_encoder.point_embeddings.3")  # corners of boxes
    assert {name for name in idle if not name.endswith("k_proj.bias")} == {
        *(f"{name}.weight" for name in untrained),
        *(name for name in idle if name.startswith("prompt_encoder.mask_downscaling")),
    }


def test_the_loss_is_the_sum_of_its_parts(nano: PromptableSam, batches: SamBatches) -> None:
    batch = batches(1, SMALL)
    with torch.no_grad():
        terms = sam_loss(nano, batch)
        without = sam_loss(nano, {name: value for name, value in batch.items() if not name.startswith("rendering")})
    assert without["invariance"] == 0.0
    weighted = sam_training.INVARIANCE_WEIGHT * terms["invariance"]
    assert (terms["loss"] - without["loss"]).item() == pytest.approx(weighted.item(), abs=1e-4)
    assert terms["invariance"] > 0
    iou_part = without["loss"] - without["cross_entropy"] - without["dice"]
    assert 0.0 <= iou_part < 0.5


def test_padding_does_not_change_the_loss(nano: PromptableSam, batches: SamBatches) -> None:
    batch = batches(0, SMALL)
    sets, length = batch["valid"].shape

    def longer(values: Tensor, filling: float) -> Tensor:
        return torch.cat([values, values.new_full((sets, 9, *values.shape[2:]), filling)], dim=1)

    padded = batch | {
        "points": longer(batch["points"], 77.0),
        "polarity": longer(batch["polarity"], 1),
        "valid": longer(batch["valid"], False),
    }
    assert padded["points"].shape[1] == length + 9
    with torch.no_grad():
        assert sam_loss(nano, padded)["loss"].item() == pytest.approx(sam_loss(nano, batch)["loss"].item(), abs=1e-4)


def test_two_steps_of_training_run(batches: SamBatches, tmp_path: Path) -> None:
    sam = PromptableSam(build_sam("nano", seed=2))
    before = sam.sam.mask_decoder.iou_token.weight.detach().clone()
    reports: list[dict[str, float]] = []
    config = PretrainConfig(phases=(Phase(size=32, steps=1, batch=2), Phase(size=64, steps=1, batch=2)))
    trained = pretrain(
        sam, batches, partial(sam_loss, sam), config, tmp_path / "c.pt", lambda step, terms: reports.append(terms)
    )
    assert np.isfinite(reports[0]["loss"])
    assert not torch.equal(trained.sam.mask_decoder.iou_token.weight, before)


def test_natural_pictures_are_read_with_all_their_segmentations(tmp_path: Path) -> None:
    for folder in ("images", "segments"):
        (tmp_path / folder).mkdir()
    for stem, count in (("a", 2), ("b", 1), ("c", 0)):
        (tmp_path / "images" / f"{stem}.jpg").write_bytes(encode_jpeg(np.full((20, 30, 3), 90, np.uint8)))
        for number in range(count):
            ids = np.full((20, 30), 300 + number, dtype=np.uint16)  # more segments than a byte can count
            Image.fromarray(ids).save(tmp_path / "segments" / f"{stem}_{number}.png")
    bank = load_natural(tmp_path)
    assert [len(maps) for maps in bank.segments] == [2, 1]
    assert bank.images[0].shape == (20, 30, 3)
    assert bank.segments[0][1].dtype == np.int32
    assert (bank.segments[0][1] == 301).all()


def test_no_natural_picture_with_segments_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(encode_jpeg(np.full((20, 30, 3), 90, np.uint8)))
    with pytest.raises(FileNotFoundError, match="segments"):
        load_natural(tmp_path)


def test_single_clicks_come_late_and_then_every_regime_comes(batches: SamBatches) -> None:
    phase, late = Phase(size=64, steps=1, batch=2), sam_training._LATE_FROM_STEP
    longest = {step: batches(step, phase)["valid"].sum(dim=1).max() for step in (0, 1, 2, 3, late, late + 2)}
    assert late % 4 == 0
    assert longest[0] > 2 or longest[3] > 2, "no single clicks at first"
    assert longest[late] <= SET_SIZES["single"]
    assert longest[late + 2] > SET_SIZES["some"]
    assert set(sam_training._REGIMES) | {"single"} == set(sam_training._LATE_REGIMES) == set(SET_SIZES)


def test_real_natural_pictures_have_segments(shared_data: Path) -> None:
    bank = load_natural(shared_data / "natural" / "val")
    for image, maps in zip(bank.images[:5], bank.segments[:5], strict=True):
        assert all(segments.shape == image.shape[:2] and np.unique(segments).size > 1 for segments in maps)
