"""Run a batch in parts that fit: half as large after each out-of-memory, and never lost for one bad picture."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from s3pot.images import ImageError
from s3pot.landmark_file import LandmarkError

Given = TypeVar("Given")
Made = TypeVar("Made")
_log = logging.getLogger(__name__)


class BackOff:
    """Knows how many pictures fit into memory at once; what it has learnt holds for the batches that follow.

    Args:
        largest: most pictures at once.
    """

    def __init__(self, largest: int) -> None:
        self.largest = max(1, largest)

    def run(
        self,
        compute: Callable[[Sequence[Given]], Sequence[Made]],
        batch: Sequence[Given],
        failed: Callable[[Given, Exception], None],
    ) -> list[tuple[Given, Made]]:
        """Compute a batch.

        A part that fails is done again in halves, down to the picture that is to blame. An out-of-memory lowers
        `largest` for good.

        Args:
            compute: maps pictures to as many results.
            batch: the pictures.
            failed: told which single pictures failed, and of what.

        Returns:
            The pictures that did not fail with their results, in the order of the batch.

        Raises:
            torch.AcceleratorError: if the device itself is broken, which says nothing about a picture.
        """
        done: list[tuple[Given, Made]] = []
        waiting = self._split(batch, self.largest)
        while waiting:
            part = waiting.pop(0)
            if len(part) > self.largest:
                waiting[:0] = self._split(part, self.largest)
                continue
            try:
                done += zip(part, compute(part), strict=True)
            except torch.AcceleratorError:
                raise
            except Exception as error:
                if len(part) == 1:
                    failed(part[0], error)
                else:
                    half = (len(part) + 1) // 2
                    self._learn(error, half)
                    waiting[:0] = self._split(part, half)
        return done

    def _learn(self, error: Exception, half: int) -> None:
        if not is_out_of_memory(error):
            return
        self.largest = min(self.largest, half)
        _log.warning("out of memory: at most %d pictures at once from now on", self.largest)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @staticmethod
    def _split(batch: Sequence[Given], size: int) -> list[Sequence[Given]]:
        return [batch[first : first + size] for first in range(0, len(batch), size)]


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that memory, of the device or of the machine, did not suffice."""
    # PyTorch's allocator for the CPU raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def error_text(error: Exception) -> str:
    """Return what a row of a failed picture says: the sentence of an expected error, with its class of any other."""
    if isinstance(error, ImageError | LandmarkError | OSError) and str(error):
        return str(error)
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"
