"""Lets photographs through to `serve.batch` in such a way that those which wait together are computed together.

By itself `serve.batch` closes a batch some milliseconds after its first photograph, even while another is computed: one
that comes early would then be computed alone, however many came meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BatchGate:
    """Open while nothing is computed, for as many as one batch holds.

    Args:
        batch_size: of a full batch.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._inside = batch_size, 0
        self._open = asyncio.Event()
        self._open.set()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Wait to be let through; the last one to leave opens the gate for the next batch."""
        # Another may have gone through between the signal and this line.
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        if self._inside == self._batch_size:
            self._open.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._open.set()

    def close(self) -> None:
        """Let nobody through until all who are inside have left: their batch is being computed."""
        self._open.clear()
