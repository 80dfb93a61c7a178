"""Progress of long work: a bar with rate and time left in a terminal, a plain line every few seconds otherwise."""

import logging
import math
import sys
import time
from typing import TextIO

_BAR_EVERY, _LINE_EVERY = 0.2, 5.0
"""Seconds between two pictures of the bar, and between two lines of a log."""
_SHORTEST = 0.5
"""Seconds before a pace means anything: the results of a batch come all at once."""
_WIDTH = 28


class Progress:
    """Counts what is finished and says so.

    The clock starts with the first result: loading models says nothing about the pace.

    Args:
        total: how much there is to do.
        what: what is counted, in the plural.
        log: takes the plain lines.
        stream: where the bar is drawn if it is a terminal.
    """

    def __init__(self, total: int, what: str, log: logging.Logger, stream: TextIO | None = None) -> None:
        self.total, self.what, self.log = total, what, log
        self.stream = stream or sys.stderr
        self.finished = self.failed = 0
        self._started = self._shown = math.nan
        self._on_terminal = self.stream.isatty()

    def add(self, *, failed: bool = False) -> None:
        """Count one result, and show where things are if it is time."""
        self.finished += 1
        self.failed += failed
        now = time.monotonic()
        if self.finished == 1:
            self._started = self._shown = now
        last = self.finished == self.total
        if last or now - self._shown > (_BAR_EVERY if self._on_terminal else _LINE_EVERY):
            self._shown = now
            self._show(self._sentence(now), last)

    def close(self) -> None:
        """End the line of a bar that was left half-way."""
        if self._on_terminal and 0 < self.finished < self.total:
            self.stream.write("\n")
            self.stream.flush()

    def _sentence(self, now: float) -> str:
        counted, seconds = f"{self.finished}/{self.total} {self.what}, {self.failed} failed", now - self._started
        if seconds < _SHORTEST:
            return counted
        pace = (self.finished - 1) / seconds
        left = (self.total - self.finished) / max(pace, 1e-3)
        shown = f"{pace:.1f}/s" if pace >= 0.1 else f"{60 * pace:.1f}/min"
        return f"{counted}, {shown}, {left:.0f} s left"

    def _show(self, sentence: str, last: bool) -> None:
        if not self._on_terminal:
            self.log.info("%s", sentence)
            return
        filled = round(_WIDTH * self.finished / self.total)
        # The end of the line is cleared: sentences become shorter.
        self.stream.write(f"\r[{'#' * filled}{'.' * (_WIDTH - filled)}] {sentence}\x1b[K" + ("\n" if last else ""))
        self.stream.flush()
