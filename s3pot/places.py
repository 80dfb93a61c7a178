"""Where files lie: in a folder of this machine, or below a URI such as `s3://bucket/photos`.

URIs are whatever pyarrow (s3, gs, hdfs, file) or an installed fsspec file system knows. Options of the file system
follow the path as pyarrow takes them: `s3://bucket/photos?endpoint_override=127.0.0.1:5000&scheme=http`.
"""

import contextlib
import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl

import fsspec.core
import pyarrow as pa
from pyarrow import fs

from s3pot.images import IMAGE_SUFFIXES, ImageError, list_images


class Place(str):
    """A path or a URI: the type of configuration fields that take either."""


_URI = re.compile(
    r"(?P<root>[a-z][a-z0-9+.-]+://[^/?]*)(?P<path>.*?)(?P<options>(\?\w+=.*)?)", re.IGNORECASE | re.DOTALL
)
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """One image of a listing.

    Attributes:
        id: its path below the folder that was listed, with "/".
        place: path or URI, for `read_place`.
        bytes: size of the file.
    """

    id: str
    place: str
    bytes: int


def is_uri(place: str) -> bool:
    """Say whether a place is a URI rather than a path."""
    return _URI.fullmatch(place) is not None


def join_place(folder: str, name: str) -> str:
    """Return the place of a name below a folder; a name that is a place of its own stays."""
    if is_uri(name):
        return name
    if not is_uri(folder):
        return str(Path(folder) / name)
    root, path, options = _parts(folder)
    return f"{root}{PurePosixPath(path or '/') / name}{options}"


def parent_place(place: str) -> str:
    """Return the folder of a place."""
    if not is_uri(place):
        return str(Path(place).parent)
    root, path, options = _parts(place)
    return f"{root}{PurePosixPath(path or '/').parent}{options}"


def read_place(place: str) -> bytes:
    """Read a file.

    Raises:
        OSError: if it cannot be read.
    """
    if not is_uri(place):
        return Path(place).read_bytes()
    filesystem, path = open_place(place)
    with filesystem.open_input_stream(path, compression=None) as stream:
        data: bytes = stream.read()
        return data


def write_place(place: str, data: bytes) -> None:
    """Write a file that nobody reads yet, its folder made when missing; object stores show whole files only.

    Raises:
        OSError: if it cannot be written.
    """
    filesystem, path = open_place(place)
    try:
        stream = filesystem.open_output_stream(path, compression=None)
    except FileNotFoundError:  # object stores need no folders
        filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
        stream = filesystem.open_output_stream(path, compression=None)
    with stream:
        stream.write(data)


def remove_place(place: str) -> None:
    """Remove a file that may be gone already.

    Raises:
        OSError: if it cannot be removed.
    """
    filesystem, path = open_place(place)
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file(path)


def copy_place(place: str, to: Path) -> None:
    """Copy a file to this machine, piece by piece: it may be larger than memory.

    Raises:
        OSError: if it cannot be read or written.
    """
    filesystem, path = open_place(place)
    with filesystem.open_input_stream(path, compression=None) as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, 8 * 2**20)


def describe_place(place: str) -> str | None:
    """Return what changes when a file is written anew (its size and time), None if there is no such file.

    Raises:
        OSError: if the file system cannot be reached.
    """
    filesystem, path = open_place(place)
    info = filesystem.get_file_info(path)
    return f"{info.size} {info.mtime_ns}" if info.is_file else None


def list_names(folder: str) -> set[str]:
    """List the names of the files of a folder, sub-folders apart; none of a folder that is not there.

    Raises:
        OSError: if the file system cannot be reached.
    """
    filesystem, base = open_place(folder)
    infos = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
    return {info.base_name for info in infos if info.is_file}


def open_place(place: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path there.

    Raises:
        OSError: if there is no such file system.
    """
    root, path, options = _parts(place)
    filesystem, base = _filesystem(root, options)
    return filesystem, base.rstrip("/") + path


def shown_place(place: str) -> str:
    """Return a place as it may be written down: a URI without user, password and options."""
    if not is_uri(place):
        return place
    root, path, _ = _parts(place)
    scheme, _, authority = root.partition("://")
    return f"{scheme}://{authority.rpartition('@')[2]}{path}"


def list_place(place: str) -> list[ListedImage] | None:
    """List the images of a folder, with its sub-folders, or of a glob; by id. None if the place is neither.

    A glob knows `*` and `?` (not over "/"), `**` (over any folders) and `[...]`; ids are paths below the last folder
    before its first wildcard.

    Raises:
        ImageError: if no image is there.
        OSError: if a file system cannot be reached.
    """
    if not is_uri(place):
        if Path(place).is_dir():
            return _local(Path(place), list_images(place, recursive=True))
        if not _MAGIC.search(place):
            return None
        folder, pattern = _split_glob(place)
        below = _local(Path(folder), list_images(folder, recursive=True)) if Path(folder).is_dir() else []
        return _matching(below, pattern, place)
    root, path, options = _parts(place)
    if _MAGIC.search(path):
        folder, pattern = _split_glob(path)
        return _matching(_remote(f"{root}{folder}{options}"), pattern, place)
    filesystem, where = open_place(place)
    if filesystem.get_file_info(where).type != fs.FileType.Directory:
        return None
    found = _remote(place)
    if not found:
        raise ImageError(f"{place}: no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _local(folder: Path, paths: list[Path]) -> list[ListedImage]:
    return [
        ListedImage(id=path.relative_to(folder).as_posix(), place=str(path), bytes=path.stat().st_size)
        for path in paths
    ]


def _remote(folder: str) -> list[ListedImage]:
    filesystem, base = open_place(folder)
    infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    found = []
    for info in infos:
        name = PurePosixPath(info.path).relative_to(PurePosixPath(base)).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if info.is_file and not hidden and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            found.append(ListedImage(id=name, place=join_place(folder, name), bytes=info.size or 0))
    return sorted(found, key=lambda image: image.id)


def _split_glob(path: str) -> tuple[str, str]:
    """Split at the last folder before the first wildcard."""
    start = _MAGIC.search(path)
    assert start is not None
    folder, _, first = path[: start.start()].rpartition("/")
    absolute = path.startswith("/")
    return folder or ("/" if absolute else "."), first + path[start.start() :]


def _matching(found: list[ListedImage], pattern: str, place: str) -> list[ListedImage]:
    wanted = re.compile(_as_regex(pattern))
    chosen = [image for image in found if wanted.fullmatch(image.id)]
    if not chosen:
        raise ImageError(f"{place}: no image matches (of {len(found)} below it)")
    return chosen


def _as_regex(pattern: str) -> str:
    wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    made = ""
    for token in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\])", pattern):
        if token.startswith("["):
            made += token.replace("[!", "[^", 1)
        else:
            made += wildcards.get(token) or re.escape(token)
    return made


def _parts(place: str) -> tuple[str, str, str]:
    match = _URI.fullmatch(place)
    assert match is not None
    return match["root"], match["path"], match["options"]


@lru_cache(maxsize=8)
def _filesystem(root: str, options: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path of its root there."""
    try:
        found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(f"{root}/{options}")
        return found
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _from_fsspec(root, options)


def _from_fsspec(root: str, options: str) -> tuple[fs.FileSystem, str]:
    try:
        filesystem, base = fsspec.core.url_to_fs(root, **dict(parse_qsl(options[1:])))
    except (ValueError, ImportError) as error:
        raise OSError(f"{root}: no file system for it: {error}") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), str(base)
