import mmap
from pathlib import Path

import pytest
import torch

from s3pot.head.epoch_report import TERMS, EpochMeter


def peak_of_process() -> int:
    """What the kernel says, in bytes."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def test_means_over_images_and_rates_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("s3pot.head.epoch_report.time.monotonic", lambda: now[0])
    meter = EpochMeter(torch.device("cpu"))
    for _ in range(2):
        with meter.waiting():
            now[0] += 1.5
        now[0] += 4.5
        meter.add(torch.arange(len(TERMS), dtype=torch.float64))
    report = meter.report(epoch=3, learning_rate=0.1, images=8, workers=1)
    assert [getattr(report, name) for name in TERMS] == [2 * value / 8 for value in range(len(TERMS))]
    assert (report.epoch, report.learning_rate, report.seconds) == (3, 0.1, 12.0)
    assert report.images_per_second == pytest.approx(8 / 12)
    assert report.data_wait == pytest.approx(0.25)


def test_peak_memory_is_that_of_the_process_in_bytes() -> None:
    before = EpochMeter(torch.device("cpu")).report(0, 0.1, 1, 1).peak_memory
    assert before == pytest.approx(peak_of_process(), rel=0.05)
    # More than is free below the peak so far, touched page by page.
    size = int(before) + 64 * 2**20
    with mmap.mmap(-1, size) as pages:
        for place in range(0, size, mmap.PAGESIZE):
            pages[place] = 1
    after = EpochMeter(torch.device("cpu")).report(0, 0.1, 1, 1).peak_memory
    assert after == pytest.approx(peak_of_process(), rel=0.05)
    assert after > before + 32 * 2**20
