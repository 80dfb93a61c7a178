"""Names out of files that others wrote, as places below a folder: none of them may lead out of it.

Compared as text, after `..` is resolved as text, and the file that is opened is the resulting one: pictures that are
links to elsewhere, as dataset tools make them, are fine, but an annotation cannot name what lies elsewhere.
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath


class OutsideError(ValueError):
    """A name leads out of every folder it may lie in; the message says what to do."""


def leads_out(name: str) -> bool:
    """Say whether a name, joined to a folder, would leave it, name the folder itself, or have a second spelling."""
    plain = PurePosixPath(name)
    return plain.is_absolute() or ".." in plain.parts or plain.as_posix() != name or name == "." or "\0" in name


def place_below(folder: Path, name: str, suffix: str = "") -> Path:
    """Return the file of a name below a folder.

    Raises:
        OutsideError: if it would lie elsewhere.
    """
    if leads_out(name):
        raise OutsideError(f"the name {name!r} leads out of {folder}")
    return folder / f"{name}{suffix}"


def find_picture(name: str, beside: Path, root: Path | None, *, outside: bool = False) -> Path | None:
    """Find the picture that an annotation names.

    Args:
        name: as the annotation has it: a file name, a path relative to the annotation, or an absolute path of this or
            of another machine.
        beside: folder of the annotation, from which relative names are meant.
        root: folder of the pictures; a picture of that file name in it counts where the name itself leads nowhere, for
            X-AnyLabeling keeps file names only and paths of another machine mean nothing here.
        outside: take what lies neither below `beside` nor below `root`, too.

    Returns:
        The picture, or None if there is no such file.

    Raises:
        OutsideError: if it exists only outside, and that is not allowed.
    """
    allowed = [_plain(folder) for folder in (root, beside) if folder is not None]
    named = [_plain(folder / name) for folder in allowed]  # an absolute name stays what it is
    for place in named:
        if os.path.isfile(place) and (outside or _below_any(place, allowed)):
            return place
    last = PureWindowsPath(name).name if "\\" in name else PurePosixPath(name).name
    if root is not None and last and os.path.isfile(_plain(root) / last):
        return _plain(root) / last
    if any(os.path.isfile(place) for place in named):
        places = " and ".join(str(folder) for folder in allowed)
        raise OutsideError(f"the picture {name!r} lies outside {places}: outside=true takes it")
    return None


def _plain(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _below_any(place: Path, folders: Sequence[Path]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)
