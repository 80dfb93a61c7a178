"""The journal of a run: all that goes to MLflow, first written to the run's own folder, one JSON object a line.

    runs/<kind>/<name>/tracking-<time>-<id>.jsonl

    {"event": "open", "run": ID, "parent": ID or null, "experiment": "s3pot/train", "name": ..., "time": ms, "uri": ...,
     "tags": {...}}
    {"event": "params", "run": ID, "params": {...}}
    {"event": "metrics", "run": ID, "time": ms, "step": 3, "metrics": {...}}
    {"event": "artifact", "run": ID, "path": ..., "folder": ...}       path: from `runs` when it lies below it
    {"event": "close", "run": ID, "time": ms, "status": "FINISHED" | "FAILED" | "KILLED"}
    {"event": "uploaded", "to": URI or null}                           all before it is at that server

A null URI is the database of the runs folder itself, which may be moved. Whoever writes holds a lock on the file, and
the kernel takes it from a process that dies: a journal without lock and without "close" is that of a killed run.
"""

import fcntl
import json
import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

Event = dict[str, Any]
PATTERN = "tracking-*.jsonl"


class JournalError(Exception):
    """A journal cannot be read; the message names file and line."""


class JournalInUse(Exception):
    """Another process writes this journal: its run goes on, or somebody uploads it."""


class Journal:
    """A journal open for appending, locked until it is closed; every event is with the system when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            JournalInUse: if another process has it open.
        """
        self.path = path
        self._file: BinaryIO = path.open("a+b")
        try:
            _lock(self._file)
        except BlockingIOError as error:
            self._file.close()
            raise JournalInUse(str(path)) from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, event: Event) -> None:
        """Add one event."""
        self._file.write(json.dumps(event).encode() + b"\n")
        self._file.flush()

    def events(self) -> list[Event]:
        """Read all events; what a killed process left of its last line is cut off.

        Raises:
            JournalError: if a line is damaged.
        """
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        return [_parse(line, self.path, number) for number, line in enumerate(content[:whole].splitlines(), 1)]


def new_journal(folder: Path) -> Journal:
    """Start the journal of a run in the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    path = folder / f"tracking-{started}-{uuid.uuid4().hex[:8]}.jsonl"
    # Named when it is locked: `s3pot sync` must not find it before.
    journal = Journal(folder / f".{path.name}.part")
    journal.path = journal.path.rename(path)
    return journal


def milliseconds() -> int:
    """Return the time as MLflow counts it."""
    return int(time.time() * 1000)


def place_below(runs: Path, path: Path) -> str:
    """Return a path from `runs` if it lies below, so that the folder can be moved; otherwise the absolute path."""
    absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(runs))
    return str(absolute.relative_to(root) if absolute.is_relative_to(root) else absolute)


def _lock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks goes without: uploading twice adds nothing. Only a lock of another is an error.
        if isinstance(error, BlockingIOError):
            raise


def _parse(line: bytes, path: Path, number: int) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError as error:
        raise JournalError(f"{path}, line {number} is damaged: remove the line and sync again") from error
    return event
