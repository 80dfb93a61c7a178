import logging

import pytest

from ray_jobs.data_threads import each
from s3pot.images import ImageError

LOG = logging.getLogger("test")


def half(number: int) -> float:
    if number == 3:
        raise ImageError("three")
    return number / 2


@pytest.mark.parametrize("workers", [1, 4])
def test_results_in_order_and_failures_beside_them(workers: int) -> None:
    made = list(each(half, list(range(700)), "numbers", LOG, workers))
    assert [number for number, _ in made] == list(range(700))
    assert isinstance(made[3][1], ImageError)
    assert [result for number, result in made if number != 3] == [number / 2 for number in range(700) if number != 3]


def test_a_mistake_of_ours_is_raised() -> None:
    def wrong(number: int) -> float:
        raise KeyError(number)

    with pytest.raises(KeyError):
        list(each(wrong, [1], "numbers", LOG, 1))
    assert list(each(half, [], "numbers", LOG)) == []
