"""How long one goes on asking: exponential back-off with jitter, what the server asks for, and a pace for all together.

The jitter derives from (seed, image), so that a run can be repeated, and workers that failed together do not come back
together.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from s3pot.screening.chat import TryAgain
from s3pot.seeding import generator

Answered = TypeVar("Answered")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often and after what time a request is made again.

    Attributes:
        attempts: requests per picture, at least 1.
        first_wait: seconds before the second attempt; each later wait is twice as long.
        longest_wait: seconds that no wait exceeds, whatever the server asks for.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {self.attempts}")
        if not 0.0 < self.first_wait <= self.longest_wait:
            raise ValueError(
                f"first_wait must be above 0 and at most longest_wait, got {self.first_wait}, {self.longest_wait}"
            )

    def waits(self, seed: int, item: str) -> list[float]:
        """Return the seconds before each attempt after the first: doubling, each cut to between half and all of it."""
        rng = generator(seed, "screen/back-off", item)
        full = [min(self.longest_wait, self.first_wait * 2.0**number) for number in range(self.attempts - 1)]
        return [float(wait * (0.5 + 0.5 * rng.random())) for wait in full]


@runtime_checkable
class Pace(Protocol):
    """Spreads the requests of all workers over time."""

    def reserve(self) -> float:
        """Take the next free place; returns the seconds until it."""

    def hold(self, seconds: float) -> None:
        """Give no place before this time is over: a server that is overrun is so for every worker."""


class RequestPace:
    """A pace kept by one process.

    Args:
        per_minute: requests per minute, evenly spread; 0 = without limit.
        now: the clock, in seconds.
    """

    def __init__(self, per_minute: float, now: Callable[[], float] = time.monotonic) -> None:
        self._between = 60.0 / per_minute if per_minute else 0.0
        self._now = now
        self._next = now()

    def reserve(self) -> float:
        """Take the next free place; returns the seconds until it."""
        now = self._now()
        place = max(now, self._next)
        self._next = place + self._between
        return place - now

    def hold(self, seconds: float) -> None:
        """Give no place before this time is over."""
        self._next = max(self._next, self._now() + seconds)


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """All attempts failed; `error` is the last of them."""

    error: str


def ask_patiently(
    ask: Callable[[], Answered],
    waits: list[float],
    pace: Pace,
    *,
    longest_wait: float,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Answered | GivenUp, int]:
    """Ask until an answer comes, or the attempts are used up.

    Args:
        ask: one attempt; raises `TryAgain` when another may succeed.
        waits: seconds before each attempt after the first (`Patience.waits`).
        pace: asked for a place before every attempt.
        longest_wait: most seconds that a server may ask for.
        sleep: waits.

    Returns:
        The answer, or the last failure; and how many attempts were made.
    """
    error = ""
    for number, wait in enumerate([0.0, *waits]):
        sleep(wait)
        sleep(pace.reserve())
        try:
            return ask(), number + 1
        except TryAgain as failure:
            error = str(failure)
            if failure.wait:
                pace.hold(min(failure.wait, longest_wait))
    return GivenUp(error=error), len(waits) + 1
