"""Points on targets, and which picture gets which answer."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from s3pot.ladder import LadderImage
from s3pot.scorecard.prompting import PromptSet, answer, draw_points, flip_polarity, split_by_area
from s3pot.scorecard.targets import Target, TargetPicture, composite_pictures
from tests.scorecard.conftest import KnownSam


def strip(width: int, side: int = 20) -> Target:
    inside = np.zeros((side, side), dtype=bool)
    inside[:, :width] = True
    return Target(
        kind="occluder", name="", inside=inside, positives=inside, contrast=~inside, counted=np.ones_like(inside)
    )


def test_points_lie_where_they_belong(rng: np.random.Generator) -> None:
    points, polarity = draw_points(strip(5), 40, 30, rng)
    assert polarity.tolist() == [1] * 40 + [0] * 30
    assert (points[:40, 0] < 5).all()
    assert (points[40:, 0] >= 5).all()
    assert len(np.unique(points, axis=0)) == 70  # without replacement


def test_more_points_than_pixels_repeat(rng: np.random.Generator) -> None:
    target = strip(1, side=3)
    points, polarity = draw_points(target, 10, 0, rng)
    assert points.shape == (10, 2)
    assert polarity.sum() == 10


def test_without_contrast_there_are_no_negatives(rng: np.random.Generator) -> None:
    points, polarity = draw_points(strip(20), 3, 3, rng)
    assert (len(points), polarity.tolist()) == (3, [1, 1, 1])


@pytest.mark.parametrize(("width", "number", "split"), [(5, 100, (25, 75)), (20, 10, (9, 1)), (1, 10, (1, 9))])
def test_points_are_split_by_area(width: int, number: int, split: tuple[int, int]) -> None:
    assert split_by_area(strip(width), number) == split


def test_the_share_of_wrong_points_is_exact(rng: np.random.Generator) -> None:
    polarity = np.repeat([1, 0], 50).astype(np.int64)
    assert (flip_polarity(polarity, 0.3, rng) != polarity).sum() == 30
    assert (flip_polarity(polarity, 0.0, rng) == polarity).all()
    assert polarity.sum() == 50  # the original is left alone


def question(picture: int, target: Target, number: int) -> PromptSet:
    points, polarity = draw_points(target, number, 0, np.random.default_rng(picture))
    return PromptSet(picture=picture, measure="m", target=target, points_xy=points, polarity=polarity)


def test_every_set_gets_the_answer_of_its_picture(
    make_composite: Callable[..., LadderImage], known_sam: KnownSam
) -> None:
    entries = [make_composite(str(index)) for index in range(11)]
    for index, entry in enumerate(entries):
        entry.image[...] = 0
        entry.image[: 2 * index, :, 0] = 255
    pictures = composite_pictures(entries)
    # Shuffled pictures and lengths: sorting by length and batching must not mix them up.
    order = [3, 10, 0, 7, 3, 1, 9, 5, 2, 8, 6, 4, 10]
    sets = [question(picture, pictures[picture].targets[0], 1 + (5 * place) % 7) for place, picture in enumerate(order)]
    masks = answer(known_sam, pictures, sets)
    assert [int(mask.sum()) for mask in masks] == [2 * picture * 64 for picture in order]


def test_points_move_to_the_model_frame(known_sam: KnownSam) -> None:
    target = strip(2, side=32)
    picture = TargetPicture(
        id="p", face_id="f", cutout_id="c", image=np.zeros((32, 32, 3), dtype=np.uint8), targets=(target,)
    )
    asked = PromptSet(
        picture=0,
        measure="m",
        target=target,
        points_xy=np.array([[1, 0], [31, 15]], dtype=np.float32),
        polarity=np.array([1, 0]),
    )
    mask = answer(known_sam, [picture], [asked])[0]
    assert mask.shape == (32, 32)
    points, polarity = known_sam.asked[0]
    # 32 px to 64 px: pixel centres (x + 0.5) * 2 - 0.5.
    assert torch.equal(points, torch.tensor([[[2.5, 0.5], [62.5, 30.5]]]))
    assert polarity.tolist() == [[1, 0]]
