"""Files that are there whole or not at all, and that say by their name what they hold.

Every shard and every manifest part is written beside its place and moved there, and carries the SHA-256 of its bytes in
its name. So files never change once they are there: two writers of the same bytes write the same file, a hard link is
as good as a copy, and whoever reads a file sees what its name promises or can tell that it does not.

The move is atomic for every process that looks; it is not flushed to the disk. After a power failure, `verify`.
"""

import contextlib
import hashlib
import os
import shutil
import uuid
from pathlib import Path

from s3pot.store.errors import StoreError

LEFTOVER = ".part"
"""Suffix of files that are being written, or were when their writer was killed; their names start with a dot."""


def sha256_of_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def write_file(folder: Path, name: str, data: bytes) -> None:
    """Write a file whole or not at all, into a folder that is made when missing.

    Raises:
        StoreError: if it cannot be written, the disk being full above all; nothing of it is left then.
    """
    part = folder / f".{name}.{uuid.uuid4().hex[:8]}{LEFTOVER}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, folder / name)
    except OSError as error:
        _remove(part)  # first, or it would count as used
        raise StoreError(
            f"{folder / name}: cannot be written: {error.strerror or error} ({len(data) / 1e6:.1f} MB to write, "
            f"{_free_bytes(folder) / 1e6:.1f} MB free); make room and run the command again, it goes on where it was"
        ) from error
    finally:
        _remove(part)


def share_file(there: Path, here: Path) -> None:
    """Make a file of a store appear in another: a hard link, or a copy on another file system; whole or not at all.

    Raises:
        StoreError: if it is missing, or cannot be made to appear.
    """
    if here.exists():
        return
    part = here.with_name(f".{here.name}.{uuid.uuid4().hex[:8]}{LEFTOVER}")
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(there, part)
        except FileNotFoundError as error:
            raise StoreError(
                f"{there}: shard missing: `s3pot store verify --repair {there.parent.parent}` first"
            ) from error
        except OSError:  # another file system, or one without links
            shutil.copyfile(there, part)
        os.replace(part, here)
    except OSError as error:
        raise StoreError(f"{here}: cannot be made from {there}: {error.strerror or error}; make room") from error
    finally:
        _remove(part)


def filesystem_time(folder: Path) -> float:
    """Ask the file system of a folder what time it is, seconds since 1970: ages of files must not depend on our clock.

    Raises:
        StoreError: if nothing can be written there.
    """
    probe = folder / f".now.{uuid.uuid4().hex[:8]}{LEFTOVER}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written to: {error.strerror or error}") from error
    finally:
        _remove(probe)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what stopped the writing is what the user is told
        path.unlink(missing_ok=True)


def _free_bytes(folder: Path) -> int:
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return shutil.disk_usage(there).free
