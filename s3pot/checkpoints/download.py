"""Fetch a file: a cut download goes on where it stopped, and only what has the right checksum gets the file's name.

Until it is complete a download lies beside its target as `NAME.part`. A server that cannot go on in the middle is asked
for all of it again.
"""

import os
import re
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from s3pot.checkpoints.reading import WeightsError, sha256_of

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, and how many there will be if the server says so."""

_BLOCK = 1 << 18
_TIMEOUT_SECONDS = 30.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416


def download(url: str, target: Path, sha256: str | None = None, progress: Progress | None = None) -> Path:
    """Fetch a file, unless it is there already.

    Args:
        url: address; https, or http of this very machine.
        target: where it shall lie; folders are made. A file that is there already is checked and never replaced.
        sha256: what it must be, 64 hex digits; without it, what an earlier call left is not gone on with.
        progress: called after every block.

    Returns:
        `target`.

    Raises:
        WeightsError: if it cannot be fetched or written, or is another file. What a cut connection left is kept.
    """
    _check_address(url)
    part = target.with_name(f"{target.name}.part")
    try:
        if target.exists():
            _check_present(target, sha256)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:
            part.unlink(missing_ok=True)
        for went_on in (part.exists(), False):
            _fetch(url, part, progress)
            came = sha256 and sha256_of(part)
            if came == sha256:
                os.replace(part, target)
                return target
            size = part.stat().st_size
            part.unlink()
            if not went_on:  # else the first bytes may be those of an older version: once more, from the start
                break
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error})") from error
    raise WeightsError(
        f"{url}: another file came than was asked for: {size} bytes with SHA-256 {came}, expected {sha256}. It was "
        f"dropped. Is something between you and the server that answers in its place?"
    )


class _Cut(Exception):
    """The connection failed; what came until then is kept."""


class _CheckedRedirects(HTTPRedirectHandler):
    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise WeightsError(f"{url}: weights are fetched over https only")


def _check_present(target: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := sha256_of(target)) != sha256:
        raise WeightsError(
            f"{target}: a file is there already, but its SHA-256 is {found}, expected {sha256}. Move it away, or fetch "
            "into another folder"
        )


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    """Connect until the file is complete, as long as every connection brings more of it."""
    while True:
        before = _size(part)
        try:
            _fetch_rest(url, part, progress)
            return
        except _Cut as cut:
            after = _size(part)
            if after > before:
                continue
            advice = f"cut off after {after} bytes, run the command again to go on" if after else "cannot be reached"
            raise WeightsError(f"{url}: {advice} ({cut})") from cut


def _fetch_rest(url: str, part: Path, progress: Progress | None) -> None:
    """Ask for what is missing, on one connection.

    Raises:
        _Cut: if it ends too early.
    """
    have = _size(part)
    try:
        response = _connect(url, have)
    except HTTPError as error:
        if not have or error.code != _RANGE_NOT_SATISFIABLE:
            raise WeightsError(f"{url}: the server answered {error.code} {error.reason}") from error
        if _total(error.headers) == have:
            return  # there is no more: it was cut after the last byte, and the checksum decides
        part.unlink()  # longer than the file is now
        return _fetch_rest(url, part, progress)
    with response:
        if response.status == _PARTIAL and _start(response.headers) == have:
            total = _total(response.headers)
        elif response.status == _OK:
            have, length = 0, response.headers.get("Content-Length")
            total = None if length is None else int(length)
        else:
            raise WeightsError(f"{url}: the server answered {response.status} to a request for bytes {have} and on")
        with part.open("ab" if have else "wb") as out:
            while block := _read(response):
                out.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, total)
    if total is not None and have < total:
        raise _Cut(f"{have} of {total} bytes came")


def _connect(url: str, have: int) -> HTTPResponse:
    headers = {"User-Agent": "s3pot"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = build_opener(_CheckedRedirects).open(
            Request(url, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise _Cut(str(getattr(error, "reason", error))) from error
    return response


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _Cut(str(error)) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _start(headers: Message) -> int | None:
    """First byte of a partial answer: `Content-Range: bytes START-END/TOTAL`."""
    found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _total(headers: Message) -> int | None:
    """Size of the whole file, of a partial or a refused answer."""
    found = re.search(r"/(\d+)$", headers.get("Content-Range", ""))
    return int(found[1]) if found else None
