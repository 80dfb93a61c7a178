"""Every image counts exactly once, whatever the number of workers and parts; two real processes that talk gloo."""

import math
import os
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from s3pot.head.epoch_report import EpochMeter, EpochReport
from s3pot.head.global_batches import Shard, WorkerBatch, epoch_batches
from s3pot.head.training import train_head
from s3pot.sam.promptable import PromptableSam
from tests.head_training import FAST, OBJECTIVE, assert_equal_weights, assert_same_function, seven_records
from tests.stand_ins import small_reweighter, tiny_sam


def batches_of(shard: Shard, *, count: int, size: int, accumulate: int = 1, epoch: int = 0) -> list[WorkerBatch]:
    return list(epoch_batches(count, epoch, batch_size=size, accumulate=accumulate, seed=0, shard=shard))


def counted(batch: WorkerBatch) -> list[int]:
    """Images of a worker's batch that count."""
    return [
        position
        for part in batch.parts
        for position, weight in zip(part.positions, part.weights, strict=True)
        if weight == 1.0
    ]


@pytest.mark.parametrize(
    ("count", "size", "workers", "accumulate"),
    [(7, 3, 1, 1), (7, 3, 2, 1), (13, 6, 4, 1), (13, 6, 2, 3), (5, 2, 3, 2), (1, 4, 4, 4), (12, 6, 2, 1)],
)
def test_workers_share_the_batches_of_one(count: int, size: int, workers: int, accumulate: int) -> None:
    whole = batches_of(Shard(), count=count, size=size)
    shares = [
        batches_of(Shard(rank=rank, workers=workers), count=count, size=size, accumulate=accumulate)
        for rank in range(workers)
    ]
    assert sorted(position for batch in whole for position in counted(batch)) == list(range(count))
    for batch, *mine in zip(whole, *shares, strict=True):
        assert sorted(counted(batch)) == sorted(position for share in mine for position in counted(share))
        assert {share.global_size for share in mine} == {batch.global_size} == {len(counted(batch))}
        # No worker waits for another: as many images and parts for each, and never none.
        shapes = {tuple(len(part.positions) for part in share.parts) for share in mine}
        assert len(shapes) == 1
        assert all(0 < images <= math.ceil(size / (workers * accumulate)) for images in shapes.pop())
        assert all(len(share.parts) <= accumulate for share in mine)


def test_what_fills_up_weighs_nothing() -> None:
    [batch] = batches_of(Shard(rank=1, workers=2), count=3, size=3)
    [part] = batch.parts
    assert part.weights == (1.0, 0.0)
    [first] = batches_of(Shard(rank=0, workers=2), count=3, size=3)
    assert part.positions[1] in first.parts[0].positions


def test_the_order_is_that_of_seed_and_epoch() -> None:
    epochs = [[counted(batch) for batch in batches_of(Shard(), count=20, size=3, epoch=epoch)] for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return tiny_sam()


# What two processes train, together, one after the other: seven images are uneven in every way.
TOGETHER = {
    "3 at a time": FAST,
    "6 at a time": replace(FAST, batch_size=6),
    "6 at a time in parts": replace(FAST, batch_size=6, accumulate=2),
    "a single step": replace(FAST, epochs=1, batch_size=7),
    "bf16": replace(FAST, precision="bf16"),
}


def train_as_worker(rank: int, folder: str, workers: int) -> None:
    """One of two processes: gloo over a file and the loopback interface."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=workers,
        timeout=timedelta(minutes=10),
    )
    sam, shard = tiny_sam(), Shard(rank=rank, workers=workers)
    EpochMeter._peak_memory = lambda meter: 100 * (rank + 1)  # type: ignore[method-assign]
    outcomes = {}
    for name, config in TOGETHER.items():
        reweighter = small_reweighter(trained_looking=True)
        reports = train_head(DistributedDataParallel(reweighter), sam, seven_records(), config, OBJECTIVE, shard=shard)
        outcomes[name] = {
            "weights": reweighter.state_dict(),
            "gradients": {key: value.grad for key, value in reweighter.named_parameters()},
            "reports": [asdict(report) for report in reports],
        }
    resumed = small_reweighter()
    state = torch.load(Path(folder) / "after-one-worker.pt", weights_only=True)
    resumed.load_state_dict(state.pop("reweighter"))
    rest = train_head(
        DistributedDataParallel(resumed), sam, seven_records(), FAST, OBJECTIVE, shard=shard, resume=state
    )
    outcomes["resumed"] = {"weights": resumed.state_dict(), "reports": [asdict(report) for report in rest]}
    torch.save(outcomes, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both_workers(sam: PromptableSam, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has learned; the last training goes on from one that a single process began."""
    folder = tmp_path_factory.mktemp("workers")
    begun = small_reweighter(trained_looking=True)

    def keep(report: EpochReport, state: dict[str, Any]) -> None:
        if report.epoch == 1:
            torch.save(state | {"reweighter": begun.state_dict()}, folder / "after-one-worker.pt")

    train_head(begun, sam, seven_records(), FAST, OBJECTIVE, on_epoch=keep)
    torch.multiprocessing.spawn(train_as_worker, args=(str(folder), 2), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


class TestTwoWorkers:
    @pytest.mark.parametrize("name", [*TOGETHER, "resumed"])
    def test_replicas_agree(self, both_workers: list[dict[str, Any]], name: str) -> None:
        first, second = (worker[name] for worker in both_workers)
        assert_equal_weights(first["weights"], second["weights"])
        assert not any(
            torch.equal(value, first["weights"][key])
            for key, value in small_reweighter(trained_looking=True).state_dict().items()
        )

    @pytest.mark.parametrize("name", [*TOGETHER, "resumed"])
    def test_reports_are_those_of_both(self, both_workers: list[dict[str, Any]], name: str) -> None:
        first, second = (worker[name]["reports"] for worker in both_workers)
        assert first == second
        assert all(report["empty_face"] == pytest.approx(2 / 7) for report in first)
        assert all(report["images_per_second"] == pytest.approx(7 / report["seconds"]) for report in first)
        assert {report["peak_memory"] for report in first} == {200}, "the largest, not the sum"

    def test_every_parameter_gets_the_gradient_of_both(self, both_workers: list[dict[str, Any]]) -> None:
        for name in TOGETHER:
            first, second = (worker[name]["gradients"] for worker in both_workers)
            assert_equal_weights(first, second)
            assert min(gradient.abs().max() for gradient in first.values()) > 1e-9

    @pytest.mark.parametrize("name", TOGETHER)
    def test_equal_one(self, sam: PromptableSam, both_workers: list[dict[str, Any]], name: str) -> None:
        """Batches of 3, 3 and 1 images, or 6 and 1, for two workers; one image has no prompts at all."""
        alone = small_reweighter(trained_looking=True)
        # In parts or not is no difference either.
        reports = train_head(alone, sam, seven_records(), replace(TOGETHER[name], accumulate=1), OBJECTIVE)
        shared = small_reweighter()
        shared.load_state_dict(both_workers[0][name]["weights"])
        # Rounded to three digits, sums over other batches differ.
        tolerance = 0.02 if name == "bf16" else 1e-5
        for report, other in zip(reports, both_workers[0][name]["reports"], strict=True):
            assert other["total"] == pytest.approx(report.total, rel=tolerance)
            assert other["recall_face"] == pytest.approx(report.recall_face, rel=tolerance)
        if name != "bf16":
            assert_same_function(shared, alone)

    def test_go_on_where_one_worker_stopped(self, sam: PromptableSam, both_workers: list[dict[str, Any]]) -> None:
        alone = small_reweighter(trained_looking=True)
        whole = train_head(alone, sam, seven_records(), FAST, OBJECTIVE)
        rest = both_workers[0]["resumed"]["reports"]
        assert [report["epoch"] for report in rest] == [2, 3]
        for report, other in zip(whole[2:], rest, strict=True):
            assert other["total"] == pytest.approx(report.total, rel=1e-5)
            assert other["learning_rate"] == report.learning_rate
        shared = small_reweighter()
        shared.load_state_dict(both_workers[0]["resumed"]["weights"])
        assert_same_function(shared, alone)
