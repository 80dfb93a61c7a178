"""What a machine keeps of files that lie elsewhere: weights and stores are fetched once, not by every process.

`$S3POT_CACHE` names the folder, by itself `~/.cache/s3pot`. It can be removed whenever no job runs.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3pot.places import copy_place, describe_place, join_place


def cache_folder(place: str) -> Path:
    """Return the folder where this machine keeps what it has of a folder; it need not exist.

    Args:
        place: URI of the folder.
    """
    home = os.environ.get("S3POT_CACHE") or Path.home() / ".cache" / "s3pot"
    return Path(home) / hashlib.sha256(place.encode()).hexdigest()[:16]


def cached_file(folder: str, name: str) -> Path | None:
    """Return this machine's copy of a file, fetched when there is none or the file has changed; None if there is none.

    Of several processes that ask at once, one fetches and the others wait.

    Args:
        folder: URI of the folder the file lies in.
        name: of the file.

    Raises:
        OSError: if it cannot be read, or kept.
    """
    place, copy = join_place(folder, name), cache_folder(folder) / name
    state, known = describe_place(place), copy.with_name(f".{name}.state")
    if state is None:
        return None
    with one_at_a_time(copy.parent):
        if not copy.exists() or not known.exists() or known.read_text() != state:
            known.unlink(missing_ok=True)
            part = copy.with_name(f".{name}.part")  # a killed process leaves it, the next one writes over it
            copy_place(place, part)
            os.replace(part, copy)
            known.write_text(state)
    return copy


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let the processes of this machine do something with a folder one after the other; it is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
