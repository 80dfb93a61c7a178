"""Waiting: how long, how often, and at what pace, with a clock of our own."""

import pytest

from s3pot.screening.chat import TryAgain
from s3pot.screening.patience import GivenUp, Patience, RequestPace, ask_patiently


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def _failing(times: int, wait: float = 0.0, clock: Clock | None = None) -> tuple[list[float], object]:
    calls: list[float] = []

    def ask() -> str:
        calls.append(clock.now if clock else 0.0)
        if len(calls) <= times:
            raise TryAgain(f"failure {len(calls)}", wait)
        return "yes"

    return calls, ask


def test_waits_double_within_their_jitter_and_end_at_the_longest() -> None:
    patience = Patience(attempts=8, first_wait=1.0, longest_wait=20.0)
    waits = patience.waits(0, "a.jpg")
    assert len(waits) == 7
    for wait, full in zip(waits, [1, 2, 4, 8, 16, 20, 20], strict=True):
        assert full / 2 <= wait <= full
    assert waits == patience.waits(0, "a.jpg")
    assert waits != patience.waits(0, "b.jpg")
    assert waits != patience.waits(1, "a.jpg")


def test_jitter_spreads_workers_that_failed_together() -> None:
    first = [Patience().waits(0, f"{number}.jpg")[0] for number in range(200)]
    assert min(first) < 0.55
    assert max(first) > 0.95


def test_an_answer_at_once_takes_one_attempt() -> None:
    clock = Clock()
    calls, ask = _failing(0)
    assert ask_patiently(ask, [1.0], RequestPace(0.0, lambda: 0.0), longest_wait=9.0, sleep=clock.sleep) == ("yes", 1)
    assert len(calls) == 1
    assert sum(clock.slept) == 0.0


def test_failures_are_waited_out() -> None:
    clock = Clock()
    calls, ask = _failing(2, clock=clock)
    pace = RequestPace(0.0, lambda: clock.now)
    assert ask_patiently(ask, [1.0, 2.0, 4.0], pace, longest_wait=9.0, sleep=clock.sleep) == ("yes", 3)
    assert calls == [100.0, 101.0, 103.0]


def test_after_the_last_attempt_the_last_failure_is_told() -> None:
    clock = Clock()
    calls, ask = _failing(99)
    pace = RequestPace(0.0, lambda: clock.now)
    result, attempts = ask_patiently(ask, [1.0, 2.0], pace, longest_wait=9.0, sleep=clock.sleep)
    assert result == GivenUp(error="failure 3")
    assert attempts == len(calls) == 3
    assert sum(clock.slept) == 3.0, "nothing is waited for after the last attempt"


def test_what_the_server_asks_for_holds_everybody_up_to_a_limit() -> None:
    clock = Clock()
    calls, ask = _failing(1, wait=1000.0, clock=clock)
    pace = RequestPace(0.0, lambda: clock.now)
    ask_patiently(ask, [1.0], pace, longest_wait=30.0, sleep=clock.sleep)
    assert calls == [100.0, 130.0]
    other = RequestPace(0.0, lambda: clock.now)
    other.hold(5.0)
    assert other.reserve() == 5.0
    other.hold(2.0)
    assert other.reserve() == 5.0, "a shorter hold does not end a longer one"


def test_the_pace_is_kept_over_all_who_ask() -> None:
    clock = Clock()
    pace = RequestPace(120.0, lambda: clock.now)
    assert [pace.reserve() for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    clock.now += 60.0
    assert [pace.reserve() for _ in range(2)] == [0.0, 0.5], "places that nobody took are not saved up"


def test_every_attempt_takes_a_place() -> None:
    clock = Clock()
    calls, ask = _failing(2, clock=clock)
    pace = RequestPace(6.0, lambda: clock.now)
    ask_patiently(ask, [0.5, 0.5], pace, longest_wait=9.0, sleep=clock.sleep)
    assert calls == [100.0, 110.0, 120.0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"attempts": 0}, "attempts"), ({"first_wait": 0.0}, "first_wait"), ({"longest_wait": 0.5}, "longest_wait")],
)
def test_impatience(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Patience(**changed)
