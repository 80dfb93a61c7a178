"""Ranges of the limits."""

import pickle

import pytest

from ray_jobs.serve_limits import HeldBytes, ServeLimits
from ray_jobs.serve_messages import Refused


@pytest.mark.parametrize("values", [{"megabytes": 0}, {"faces": -1}, {"held_megabytes": 5, "megabytes": 6}])
def test_limits_that_make_no_sense(values: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ServeLimits(**values)


def test_held_bytes_count_in_and_out() -> None:
    held = HeldBytes(10)
    held.take(10)
    with pytest.raises(Refused) as refused:
        held.take(1)
    assert (held.now, refused.value.status) == (10, 503)
    held.give_back(4)
    held.take(4)


def test_a_refusal_travels_between_processes() -> None:
    travelled = pickle.loads(pickle.dumps(Refused(413, "Too large.")))
    assert (travelled.status, travelled.sentence) == (413, "Too large.")
