import io
import logging

import pytest

from ray_jobs import progress
from ray_jobs.progress import Progress

LOG = logging.getLogger("s3pot.test_progress")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that shows the next second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_come_every_five_seconds_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOG.name)
    stream = io.StringIO()
    shown = Progress(15, "images", LOG, stream)
    for number in range(15):
        shown.add(failed=number == 3)
    shown.close()
    # One result a second: the clock starts at the first, a line is due when more than five seconds have passed.
    assert caplog.messages == [
        "7/15 images, 1 failed, 1.0/s, 8 s left",
        "13/15 images, 1 failed, 1.0/s, 2 s left",
        "15/15 images, 1 failed, 1.0/s, 0 s left",
    ]
    assert stream.getvalue() == ""


def test_a_terminal_shows_a_bar_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOG.name)
    stream = Terminal()
    shown = Progress(4, "images", LOG, stream)
    for _ in range(4):
        shown.add()
    shown.close()
    pictures = stream.getvalue().split("\r")[1:]
    assert len(pictures) == 3
    assert pictures[0].startswith("[##############..............] 2/4 images, 0 failed, 1.0/s, 2 s left")
    assert pictures[-1].startswith("[" + "#" * 28 + "] 4/4 images")
    assert stream.getvalue().count("\n") == 1
    assert caplog.messages == []


def test_a_bar_that_is_left_half_way_ends_its_line() -> None:
    stream = Terminal()
    shown = Progress(4, "images", LOG, stream)
    shown.close()
    assert stream.getvalue() == ""
    shown.add()
    shown.add()
    shown.close()
    assert stream.getvalue().endswith("\n")
