"""What an epoch of training measured: means of the objective over all images, and what the time and memory went into.

Every number is one of all workers together: sums and means for the terms, the slowest worker for the time, the largest
for the memory.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

TERMS = ("total", "recall_occlusion", "recall_face", "face_penalty", "empty_occlusion", "empty_face")


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Means over all images of an epoch, over all workers.

    Attributes:
        epoch: 0-based.
        total: objective (Eq. 4), each image with the weights of its step.
        recall_occlusion: Eq. 1.
        recall_face: Eq. 2.
        face_penalty: Eq. 3, without lambda.
        empty_occlusion: share of images without occlusion prompts.
        empty_face: share of images without face prompts.
        learning_rate: at the last step.
        seconds: duration on the slowest worker.
        images_per_second: over all workers together.
        data_wait: share of the time that workers spent on getting records and moving them to the device, in [0, 1].
        peak_memory: bytes of the largest worker: on CUDA allocated during this epoch, otherwise the peak of the
            process so far, memory-mapped shards included.
    """

    epoch: int
    total: float
    recall_occlusion: float
    recall_face: float
    face_penalty: float
    empty_occlusion: float
    empty_face: float
    learning_rate: float
    seconds: float
    images_per_second: float
    data_wait: float
    peak_memory: float


class EpochMeter:
    """Adds up one epoch of one worker.

    Args:
        device: where the worker computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums = torch.zeros(len(TERMS), dtype=torch.float64)
        self._waited = 0.0
        self._started = time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def add(self, sums: Float64[Tensor, " terms"]) -> None:
        """Add sums of `TERMS` over images of this worker."""
        self._sums += sums.cpu()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block as waiting for data."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def report(self, epoch: int, learning_rate: float, images: int, workers: int) -> EpochReport:
        """Close the epoch; with several workers all of them must call this.

        Args:
            epoch: 0-based.
            learning_rate: at the last step.
            images: of the epoch over all workers.
            workers: number of processes.
        """
        sums = torch.cat([self._sums, torch.tensor([self._waited], dtype=torch.float64)])
        most = torch.tensor([time.monotonic() - self._started, self._peak_memory()], dtype=torch.float64)
        if workers > 1:
            sums, most = sums.to(self._device), most.to(self._device)
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        *terms, waited = sums.tolist()
        seconds, memory = most.tolist()
        return EpochReport(
            epoch=epoch,
            learning_rate=learning_rate,
            seconds=seconds,
            images_per_second=images / seconds,
            data_wait=waited / (workers * seconds),
            peak_memory=memory,
            **{name: value / images for name, value in zip(TERMS, terms, strict=True)},
        )

    def _peak_memory(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
