"""Result files in a folder of this machine or below a URI: written whole, listed, removed."""

from pathlib import Path

from s3pot.places import is_uri, list_names, remove_place, shown_place, write_place
from s3pot.store.atomic_files import write_file
from s3pot.store.errors import StoreError


def write_result(place: str, data: bytes) -> None:
    """Write a file; folders are made.

    In a local folder and in an object store it is there whole or not at all.

    Raises:
        StoreError: if it cannot be written.
    """
    if not is_uri(place):
        write_file(Path(place).parent, Path(place).name, data)
        return
    try:
        write_place(place, data)
    except OSError as error:
        raise StoreError(
            f"{shown_place(place)}: cannot be written: {error}; run the command again when that is mended, it goes on "
            "where it was"
        ) from error


def remove_result(place: str) -> None:
    """Remove a file if it is there.

    Raises:
        StoreError: if it cannot be removed.
    """
    try:
        if is_uri(place):
            remove_place(place)
        else:
            Path(place).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{shown_place(place)}: cannot be removed: {error.strerror or error}") from error


def result_names(folder: str) -> list[str]:
    """List the names of the files of a folder, sorted; none of a folder that is not there.

    Raises:
        OSError: if a file system cannot be reached.
    """
    if is_uri(folder):
        return sorted(list_names(folder))
    there = Path(folder)
    return sorted(path.name for path in there.iterdir() if path.is_file()) if there.is_dir() else []
