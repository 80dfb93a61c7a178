"""What the page needs to decode a face's mask again with other prompts: held for minutes, in memory, within bounds."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from ray_jobs.serve_messages import Refused


class Sessions:
    """States under random ids; the least recently used go when there is no room.

    Args:
        most: bytes of all states.
        seconds: how long a state is held after it was last used.
        clock: seconds.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._states: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # the least recently used first
        self.held = 0

    def __len__(self) -> int:
        """Count the states."""
        return len(self._states)

    def add(self, state: bytes) -> str:
        """Hold a state; returns its id, which nobody can guess. One that is too large alone is not held."""
        name = secrets.token_urlsafe(16)
        self._states[name] = (self._clock(), state)
        self.held += len(state)
        while self.held > self._most:
            self._drop(next(iter(self._states)))
        return name

    def get(self, name: str) -> bytes:
        """Return a state, which is then held on.

        Raises:
            Refused: if it is not held, or no longer.
        """
        self.forget_old()
        if name not in self._states:
            raise Refused(404, "This photograph is no longer held: send it again.")
        _, state = self._states[name]
        self._states[name] = (self._clock(), state)
        self._states.move_to_end(name)
        return state

    def forget_old(self) -> None:
        """Drop what was not used for too long."""
        oldest = self._clock() - self._seconds
        while self._states and next(iter(self._states.values()))[0] < oldest:
            self._drop(next(iter(self._states)))

    def _drop(self, name: str) -> None:
        self.held -= len(self._states.pop(name)[1])
