"""Work on many pictures in threads of one machine, with progress; what fails is handed back, not raised.

Threads, not processes: the time goes into reading files, decoding and encoding, in code that lets other threads run.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ray_jobs.progress import Progress
from s3pot.data.annotation import AnnotationError
from s3pot.data.safe_names import OutsideError
from s3pot.images import ImageError

Item = TypeVar("Item")
Result = TypeVar("Result")

EXPECTED = (AnnotationError, ImageError, OutsideError, OSError)
"""What a picture or an annotation can be guilty of; anything else is a mistake of ours, and is raised."""


def each(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, log: logging.Logger, workers: int = 0
) -> Iterator[tuple[Item, Result | Exception]]:
    """Call a function for every item; yields (item, result or what went wrong) in the order of the items.

    Args:
        function: thread-safe.
        items: what it is called with.
        what: the items are, in the plural, for the progress.
        log: takes the progress.
        workers: threads; 0 = one per core.
    """
    progress = Progress(len(items), what, log)
    workers = workers or os.cpu_count() or 1

    def attempt(item: Item) -> Result | Exception:
        try:
            return function(item)
        except EXPECTED as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        waiting = iter(items)
        # In portions: a million futures at once would be memory for nothing.
        while portion := list(islice(waiting, 64 * workers)):
            for item, result in zip(portion, pool.map(attempt, portion), strict=True):
                progress.add(failed=isinstance(result, Exception))
                yield item, result
    progress.close()
