"""Which images make up each optimizer step, and which of them a worker takes [design 5.1].

The images of an epoch are shuffled by (seed, epoch) alone and cut into global batches. With W workers every worker
takes each W-th image of a batch; one that runs short repeats an image with weight 0, so that no worker waits for
another and nothing counts twice. Neither the number of workers nor that of the parts changes what a step averages.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from s3pot.seeding import torch_generator


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Which part of every global batch this process takes.

    Attributes:
        rank: 0 .. workers - 1.
        workers: number of processes; with more than one, `torch.distributed` is initialised and the model is DDP.
    """

    rank: int = 0
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class BatchPart:
    """Images that one worker processes at once.

    Attributes:
        positions: places of the images among the records, at least one.
        weights: 1 for an image that counts, 0 for one that only fills up.
    """

    positions: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class WorkerBatch:
    """One worker's share of a global batch.

    Attributes:
        parts: processed one after the other before the step; equally many for every worker.
        global_size: images of the batch over all workers.
    """

    parts: tuple[BatchPart, ...]
    global_size: int


def epoch_batches(
    count: int, epoch: int, *, batch_size: int, accumulate: int, seed: int, shard: Shard
) -> Iterator[WorkerBatch]:
    """Yield this worker's share of every global batch of an epoch.

    Args:
        count: number of records.
        epoch: 0-based; every epoch has an order of its own.
        batch_size: images of a global batch; the last of an epoch may hold fewer.
        accumulate: parts that a full batch is processed in, at most.
        seed: of the order.
        shard: this worker.
    """
    order = torch.randperm(count, generator=torch_generator(seed, "head/order", str(epoch))).tolist()
    at_once = math.ceil(batch_size / (shard.workers * accumulate))
    for first in range(0, count, batch_size):
        whole = order[first : first + batch_size]
        mine = whole[shard.rank :: shard.workers]
        missing = math.ceil(len(whole) / shard.workers) - len(mine)
        positions = [*mine, *whole[:1] * missing]
        weights = [1.0] * len(mine) + [0.0] * missing
        parts = [
            BatchPart(
                positions=tuple(positions[start : start + at_once]), weights=tuple(weights[start : start + at_once])
            )
            for start in range(0, len(positions), at_once)
        ]
        yield WorkerBatch(parts=tuple(parts), global_size=len(whole))
