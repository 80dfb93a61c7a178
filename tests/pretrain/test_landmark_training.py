import inspect
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from s3pot.pretrain import landmark_training
from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.pretrain.landmark_training import (
    LANDMARK_SCHEDULE,
    LandmarkBatches,
    bumps,
    change_light,
    landmark_loss,
    move_face,
)
from s3pot.pretrain.loop import Phase, PretrainConfig, pretrain
from s3pot.reference.landmarks import LANDMARKS, LandmarkDetector, peak_positions, read_landmarks
from tests.faces import draw_face, draw_faces
from tests.stand_ins import answering

SMALL = Phase(size=128, steps=1, batch=3)
NOWHERE = np.full((len(LANDMARKS), 2), np.nan)


@pytest.fixture(scope="module")
def batches() -> LandmarkBatches:
    return LandmarkBatches(draw_faces(3, 128))


def test_a_batch_holds_pictures_and_heat(batches: LandmarkBatches) -> None:
    batch = batches(0, SMALL)
    assert batch["image"].shape == (3, 3, 128, 128)
    assert 0.0 <= batch["image"].min() < batch["image"].max() <= 1.0
    assert batch["heat"].shape == (3, len(LANDMARKS), 32, 32)
    assert batch["heat"].dtype == torch.float32
    assert 0.0 <= batch["heat"].min() < 0.8 < batch["heat"].max() <= 1.0


def test_a_step_always_gives_the_same_batch(batches: LandmarkBatches) -> None:
    assert torch.equal(batches(5, SMALL)["image"], batches(5, SMALL)["image"])
    assert torch.equal(batches(5, SMALL)["heat"], batches(5, SMALL)["heat"])
    assert not torch.equal(batches(5, SMALL)["image"], batches(6, SMALL)["image"])


def test_nothing_but_clean_faces_is_seen() -> None:
    source = inspect.getsource(landmark_training)
    assert not any(word in source for word in ("cutout", "compose", "draw_sample", "draw_batch", "ReferenceGenerator"))


def test_landmarks_move_with_the_face() -> None:
    # The oracle reads them anew off the labels that were moved as a picture.
    image, parsing = draw_face(256)
    labels = np.dstack([parsing * 20] * 3)
    mirrored = 0
    for seed in range(12):
        _, moved = move_face(image, read_landmarks(parsing), 256, np.random.default_rng(seed))
        drawn, again = move_face(labels, read_landmarks(parsing), 256, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved, again)
        # Bilinear edges mix ids: only places of a pure id are labels, the rest is skin.
        exact = np.where((drawn[..., 0] % 20 == 0), drawn[..., 0] // 20, 6).astype(np.uint8)
        eyes = [
            exact[tuple(np.rint(moved[LANDMARKS.index(name)][::-1]).astype(int))] for name in ("left_eye", "right_eye")
        ]
        assert eyes == [3, 3]
        mouth = exact[tuple(np.rint(moved[LANDMARKS.index("mouth")][::-1]).astype(int))]
        assert mouth in (1, 9)
        assert moved[LANDMARKS.index("left_eye"), 0] < moved[LANDMARKS.index("right_eye"), 0]
        assert moved[LANDMARKS.index("left_mouth_corner"), 0] < moved[LANDMARKS.index("right_mouth_corner"), 0]
        flat = move_face(
            np.dstack([np.tile(np.arange(256, dtype=np.uint8), (256, 1))] * 3),
            NOWHERE,
            256,
            np.random.default_rng(seed),
        )[0]
        mirrored += bool(flat[128, 100, 0] > flat[128, 156, 0])
    assert 0 < mirrored < 12


def test_a_face_is_shrunk_with_its_landmarks() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[96:112, 160:176] = 255  # centred on (167.5, 103.5)
    positions = np.full((len(LANDMARKS), 2), [167.5, 103.5])
    for seed in range(6):
        moved, places = move_face(image, positions, 64, np.random.default_rng(seed))
        assert moved.shape == (64, 64, 3)
        weight = moved[..., 0].astype(float)
        rows, cols = np.indices(weight.shape)
        center = np.array([(cols * weight).sum(), (rows * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(places[0], center, atol=0.3)


def test_light_changes_and_places_stay() -> None:
    image, _ = draw_face(128)
    changed = [change_light(image, np.random.default_rng(seed)) for seed in range(6)]
    assert all(picture.shape == image.shape and picture.dtype == np.uint8 for picture in changed)
    assert len({picture.tobytes() for picture in changed}) == 6
    gray = image.mean(axis=2).ravel()
    assert all(np.corrcoef(picture.mean(axis=2).ravel(), gray)[0, 1] > 0.8 for picture in changed)


def test_bumps_by_hand() -> None:
    # Cell 5 of stride 4 has its centre at pixel 21.5. One deviation is 1.5 cells = 6 px.
    positions = NOWHERE.copy()
    positions[0], positions[1], positions[2] = (21.5, 41.5), (-3.0, 40.0), (21.5, 130.0)
    heat = bumps(positions, 128)
    assert heat.shape == (len(LANDMARKS), 32, 32)
    assert heat[0, 10, 5] == pytest.approx(1.0)
    assert heat[0, 10, 8] == pytest.approx(np.exp(-0.5 * (12 / 6) ** 2))
    assert heat[0, 13, 8] == pytest.approx(np.exp(-0.5 * 2 * (12 / 6) ** 2))
    assert not heat[1:].any(), "a landmark outside the picture, or an unknown one, has no heat"
    assert (peak_positions(heat, 128)[0] == [21.5, 41.5]).all()


def test_the_loss_by_hand() -> None:
    # Undecided everywhere: log 2 for each of the 4 cells of every map, whatever the target.
    heat = torch.zeros(1, len(LANDMARKS), 2, 2)
    heat[0, 3, 0, 0] = 1.0
    batch = {"image": torch.zeros(1, 3, 8, 8), "heat": heat}
    terms = landmark_loss(answering(LandmarkDetector, torch.zeros(1, len(LANDMARKS), 2, 2)), batch)
    assert terms["loss"].item() == pytest.approx(4 * np.log(2))
    assert terms["peak"].item() == pytest.approx(0.5)
    assert [name for name, term in terms.items() if term.requires_grad] == ["loss"]
    empty = landmark_loss(
        answering(LandmarkDetector, torch.zeros(1, len(LANDMARKS), 2, 2)), batch | {"heat": torch.zeros_like(heat)}
    )
    assert empty["peak"].item() == 0.0


def test_the_loss_is_proper() -> None:
    # Where a landmark lies here three times out of four, the best constant answer is 0.75: confidence means share.
    answer = torch.nn.Parameter(torch.zeros(1))
    targets = torch.tensor([1.0, 1.0, 1.0, 0.0])
    for _ in range(300):
        batch = {"image": torch.zeros(4, 3, 4, 4), "heat": targets[:, None, None, None].expand(4, len(LANDMARKS), 1, 1)}
        fixed = answering(LandmarkDetector, torch.zeros(1))
        fixed.logits = torch.nn.Parameter(answer.detach().expand(4, len(LANDMARKS), 1, 1).clone())
        landmark_loss(fixed, batch)["loss"].backward()
        assert fixed.logits.grad is not None
        answer.data -= 2.0 * fixed.logits.grad.sum()
    assert torch.sigmoid(answer).item() == pytest.approx(0.75, abs=1e-3)


def test_faces_without_readable_labels_are_left_out() -> None:
    bank = draw_faces(2, 128)
    blank = bank.parsings.copy()
    blank[0] = 0
    made = LandmarkBatches(FaceBank(ids=bank.ids, images=bank.images, parsings=blank))
    assert [row for row, _ in made.readable] == [1]
    nothing = FaceBank(ids=bank.ids, images=bank.images, parsings=np.zeros_like(blank))
    with pytest.raises(ValueError, match="none of the labels of 2 faces"):
        LandmarkBatches(nothing)(0, SMALL)


def test_a_few_steps_lower_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = LandmarkDetector()
    image, parsing = draw_face(64)
    batch = {"image": pictures([image]), "heat": torch.from_numpy(bumps(read_landmarks(parsing), 64))[None]}
    config = PretrainConfig(phases=(Phase(size=64, steps=12, batch=1),), learning_rate=3e-3, average=0.0)
    before = landmark_loss(detector, batch)["loss"].item()
    trained = pretrain(
        detector,
        lambda step, phase: batch,
        partial(landmark_loss, detector),
        config,
        tmp_path / "c.pt",
        lambda *given: None,
    )
    assert landmark_loss(trained, batch)["loss"].item() < 0.8 * before


def test_the_schedule_is_at_the_size_the_detector_is_used_at() -> None:
    assert {phase.size for phase in LANDMARK_SCHEDULE.phases} == {128}
