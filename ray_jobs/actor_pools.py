"""Pools of Ray Data actors that hold models: rows stream through them, from pool to pool, into the driver.

Small rows go in (ids and paths); the weights never travel: every actor reads them from the disk of its node. Ray
restarts an actor that died and gives its block to it again.
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ray_jobs import cluster

if TYPE_CHECKING:
    import ray.data

_MOST_BLOCKS = 8192
"""Blocks of ids and paths that are given to Ray Data: its bookkeeping costs some kB of the driver's memory for each."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """Processes that hold the same models.

    Attributes:
        batch_size: images per batch.
        actors: processes; 0 = one per GPU (or share of one), or one per two CPU cores.
        max_actors: grow up to so many while batches queue up; 0 = as many as `actors`, always.
        gpus_per_actor: share of a GPU per process; 0 = CPU.
    """

    batch_size: int = 8
    actors: int = 0
    max_actors: int = 0
    gpus_per_actor: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.actors < 0 or self.max_actors < 0:
            raise ValueError("actors and max_actors must be at least 0")
        if self.max_actors and self.max_actors < max(1, self.actors):
            raise ValueError(f"max_actors ({self.max_actors}) must be at least actors ({self.actors}), or 0")
        if not 0.0 <= self.gpus_per_actor <= 1.0:
            raise ValueError(f"gpus_per_actor must lie in [0, 1], got {self.gpus_per_actor}")

    @property
    def device(self) -> str:
        """A GPU is used when one is reserved, whatever "auto" would find on the machine."""
        return "cuda" if self.gpus_per_actor > 0 else "cpu"


def run_pools(
    items: pa.Table, pools: Sequence[tuple[type, PoolConfig]], arguments: Mapping[str, Any]
) -> Generator[dict[str, Any], None, None]:
    """Send items through pools of actors; yields the rows of the last one as they are done.

    Closing the generator ends the actors.

    Args:
        items: what the first pool gets, in batches.
        pools: class of the actors of each pool, which maps data frames to data frames, and how many.
        arguments: of the constructor of every actor; it gets `threads` besides, how many it may use.
    """
    import ray.data

    # Importing ray.data sets its loggers to INFO: several lines for every run, none of them for the user.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A job that cannot go on says so instead of waiting for ever.
    context.execution_no_progress_timeout_s = 600
    first = pools[0][1].batch_size
    sizes = [_size(pool, -(-len(items) // pool.batch_size)) for _, pool in pools]
    cluster.check_gpus(sum(pool.gpus_per_actor * least for (_, pool), (least, _) in zip(pools, sizes, strict=True)))
    rows_per_block = first * max(1, -(-len(items) // (first * _MOST_BLOCKS)))
    blocks = [items.slice(start, rows_per_block) for start in range(0, len(items), rows_per_block)]
    dataset = ray.data.from_arrow(blocks)
    cpu_actors = sum(most for (_, pool), (_, most) in zip(pools, sizes, strict=True) if pool.device == "cpu")
    for (actor, pool), size in zip(pools, sizes, strict=True):
        dataset = _mapped(dataset, actor, arguments, pool, size, cpu_actors)
    yield from dataset.iter_rows()


def _size(pool: PoolConfig, batches: int) -> tuple[int, int]:
    """Return the least and the largest number of actors; never more than there are batches."""
    on_gpu = pool.gpus_per_actor > 0
    auto = int(cluster.total("GPU") / pool.gpus_per_actor) if on_gpu else int(cluster.total("CPU") // 2)
    least = max(1, min(pool.actors or auto, batches))
    return least, max(least, min(pool.max_actors or least, batches))


def _mapped(
    dataset: "ray.data.Dataset",
    actor: type,
    arguments: Mapping[str, Any],
    pool: PoolConfig,
    size: tuple[int, int],
    cpu_actors: int,
) -> "ray.data.Dataset":
    import ray.data

    cpus, on_gpu = cluster.total("CPU"), pool.gpus_per_actor > 0
    # Actors that reserve every CPU would leave none for what else runs on the cluster, such as this job's driver.
    reserved = 0.0 if on_gpu else max(0.0, (cpus - 1) / cpu_actors)
    return dataset.map_batches(
        actor,
        fn_constructor_kwargs={**arguments, "threads": max(1, int(cpus / max(1, cpu_actors)))},
        compute=ray.data.ActorPoolStrategy(min_size=size[0], max_size=size[1], initial_size=size[0]),
        batch_size=pool.batch_size,
        batch_format="pandas",
        num_cpus=reserved,
        num_gpus=pool.gpus_per_actor if on_gpu else None,
    )
