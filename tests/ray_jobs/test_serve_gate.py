"""Who is let through together."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from ray_jobs.serve_gate import BatchGate


class Batches:
    """Computes what has come after a moment, as `serve.batch` does, and notes what went together."""

    def __init__(self, size: int) -> None:
        self.gate, self.size = BatchGate(size), size
        self.computed: list[list[str]] = []
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._one_at_a_time = asyncio.Semaphore(1)

    async def ask(self, name: str) -> None:
        async with self.gate.passed():
            done = asyncio.get_running_loop().create_future()
            self._waiting.append((name, done))
            if len(self._waiting) == 1:
                self.task = asyncio.create_task(self._compute())
            await done

    async def _compute(self) -> None:
        await asyncio.sleep(0.01)
        batch, self._waiting = self._waiting[: self.size], self._waiting[self.size :]
        async with self._one_at_a_time:
            self.gate.close()
            self.computed.append([name for name, _ in batch])
            await asyncio.sleep(0.05)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)


def run(asks: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(asks, 5))


def test_what_comes_while_one_is_computed_goes_together() -> None:
    batches = Batches(4)

    async def asks() -> None:
        first = asyncio.create_task(batches.ask("first"))
        await asyncio.sleep(0.03)  # it is being computed
        rest = []
        for name in "abcdef":
            rest.append(asyncio.create_task(batches.ask(name)))
            await asyncio.sleep(0.002)
        await asyncio.gather(first, *rest)

    run(asks())
    assert batches.computed == [["first"], list("abcd"), list("ef")]


def test_full_batches_under_load() -> None:
    batches = Batches(4)

    async def client(name: str) -> None:
        for turn in range(3):
            await batches.ask(f"{name}{turn}")
            await asyncio.sleep(0.001 * (ord(name) % 5))  # answers take their time

    async def asks() -> None:
        await asyncio.gather(*map(client, "abcdefgh"))

    run(asks())
    assert sum(map(len, batches.computed)) == 24
    assert len(batches.computed) == 6


def test_one_that_gives_up_keeps_nobody_out() -> None:
    batches = Batches(2)

    async def asks() -> None:
        inside = asyncio.create_task(batches.ask("inside"))
        await asyncio.sleep(0.03)
        outside = asyncio.create_task(batches.ask("outside"))
        later = asyncio.create_task(batches.ask("later"))
        await asyncio.sleep(0.005)
        inside.cancel()
        outside.cancel()
        await later

    run(asks())
    assert batches.computed[-1] == ["later"]


def test_one_that_slipped_in_is_waited_for() -> None:
    gate, inside = BatchGate(4), []

    async def stay(name: str, until: asyncio.Event) -> None:
        async with gate.passed():
            inside.append(name)
            await until.wait()

    async def asks() -> None:
        computed, slipped, never = asyncio.Event(), asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(stay(name, computed)) for name in "ab"]
        tasks.append(asyncio.create_task(stay("c", slipped)))
        await asyncio.sleep(0.01)
        gate.close()
        late = asyncio.create_task(stay("d", never))
        computed.set()
        await asyncio.sleep(0.01)
        assert inside == ["a", "b", "c"]  # its batch is still to be computed
        slipped.set()
        await asyncio.sleep(0.01)
        assert inside == ["a", "b", "c", "d"]
        late.cancel()

    run(asks())
