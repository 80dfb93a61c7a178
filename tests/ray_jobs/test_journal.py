"""The journal of a run: order, torn lines, locks, paths that survive a move."""

import json
import os
from pathlib import Path

import pytest

from ray_jobs.journal import PATTERN, Journal, JournalError, JournalInUse, new_journal, place_below


def test_events_come_back_in_order(tmp_path: Path) -> None:
    events = [{"event": "metrics", "metrics": {"iou": 0.1 + 0.2}}, {"event": "close", "name": "ä\n"}]
    with new_journal(tmp_path / "train" / "x") as journal:
        for event in events:
            journal.append(event)
        # Another process reads them at once: nothing waits in a buffer.
        assert [json.loads(line) for line in journal.path.read_text().splitlines()] == events
    [path] = (tmp_path / "train" / "x").glob(PATTERN)
    assert path == journal.path
    with Journal(path) as again:
        assert again.events() == events


def test_the_line_a_killed_process_was_writing_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "tracking-x.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"event": "b", "na')
    with Journal(path) as journal:
        assert journal.events() == [{"event": "a"}]
        journal.append({"event": "c"})
    assert path.read_text() == '{"event": "a"}\n{"event": "c"}\n'


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tracking-x.jsonl"
    path.write_bytes(b'{"event": "a"}\n\xff\x00garbage\n{"event": "b"}\n')
    with Journal(path) as journal, pytest.raises(JournalError, match=r"tracking-x\.jsonl, line 2"):
        journal.events()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with new_journal(tmp_path / "train" / "x") as journal:
        with pytest.raises(JournalInUse):
            Journal(journal.path)
    Journal(journal.path).__exit__(None, None, None)


def test_a_journal_is_locked_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        assert list(tmp_path.rglob(PATTERN)) == []
        with pytest.raises(JournalInUse):
            Journal(path)
        seen.append(path)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    new_journal(tmp_path / "train" / "x").__exit__(None, None, None)
    assert len(seen) == 1


def test_a_file_system_without_locks_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(os.strerror(95))

    monkeypatch.setattr("fcntl.flock", refuse)
    with new_journal(tmp_path / "train" / "x") as journal:
        journal.append({"event": "a"})
        assert journal.events() == [{"event": "a"}]


def test_paths_below_the_runs_folder_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_below(Path("runs"), tmp_path / "runs" / "a" / "b.txt") == "a/b.txt"
    assert place_below(Path("runs"), tmp_path / "runs2" / "b.txt") == str(tmp_path / "runs2" / "b.txt")
