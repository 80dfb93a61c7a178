"""From an HTTP request to the bytes of a picture and what is wanted of it, without trusting either.

Nothing is decoded here: sizes are read off the picture's header. Bodies stay in memory, where common parsers of forms
would write larger files to a disk.
"""

import asyncio
import difflib
import io
import re
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import get_args

from PIL import Image, UnidentifiedImageError
from starlette.requests import ClientDisconnect, Request

from ray_jobs.serve_limits import HeldBytes, ServeLimits
from ray_jobs.serve_messages import MaskForm, Refused, Wanted

FORMATS = ("JPEG", "PNG", "WEBP")
ACCEPTED = "JPEG, PNG or WebP"
_TYPES = {"image/jpeg", "image/jpg", "image/png", "image/webp", "application/octet-stream", ""}
_FORM = "multipart/form-data"
# The frame of a form around the picture: boundaries, names, small fields.
_FORM_BYTES = 65_536
_OTHER_FORMATS = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}


def read_wanted(query: Mapping[str, str], accept: str) -> Wanted:
    """Read the query string and the Accept header.

    Raises:
        Refused: for an unknown option or value.
    """
    values: dict[str, str | bool] = {}
    for name, text in query.items():
        if name == "mask":
            if text not in get_args(MaskForm):
                raise Refused(422, f"mask={text} is unknown: it is one of {', '.join(get_args(MaskForm))}.")
            values[name] = text
        elif name in ("overlay", "stages"):
            if text.lower() not in ("true", "false", "1", "0"):
                raise Refused(422, f"{name}={text} is neither true nor false.")
            values[name] = text.lower() in ("true", "1")
        else:
            close = difflib.get_close_matches(name, ["mask", "overlay", "stages"], 1)
            hint = f"did you mean {close[0]!r}?" if close else "there are mask, overlay and stages."
            raise Refused(422, f"The option {name!r} is unknown: {hint}")
    types = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    # A browser's own "image/png,*/*" asks for a picture; a client that takes anything gets JSON.
    return Wanted(**values, picture="image/png" in types and "application/json" not in types)  # type: ignore[arg-type]


@asynccontextmanager
async def held_body(request: Request, most: int, seconds: float, held: HeldBytes) -> AsyncIterator[bytes]:
    """Receive a body, and count it as held until the block ends.

    Args:
        request: whose body is read, chunk by chunk.
        most: bytes.
        seconds: after which it must be there.
        held: what all requests hold.

    Raises:
        Refused: if it is too large, too slow, encoded, cut off, or too much together with all others.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Send the picture as it is, without a Content-Encoding.")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise _too_large(most)
    chunks: list[bytes] = []
    taken = 0
    try:
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    held.take(len(chunk))
                    taken += len(chunk)
                    if taken > most:
                        raise _too_large(most)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise Refused(408, f"The request had not arrived after {seconds:g} s.") from error
        except ClientDisconnect as error:
            raise Refused(400, "The connection was closed before the request had arrived.") from error
        yield b"".join(chunks)
    finally:
        held.give_back(taken)


def most_bytes(limits: ServeLimits, content_type: str) -> int:
    """Return how large the body of a picture may be, the form around it included."""
    form = content_type.lower().startswith(_FORM)
    return int(limits.megabytes * 1e6) + (_FORM_BYTES if form else 0)


def picture_in(body: bytes, content_type: str) -> bytes:
    """Return the file: the body itself, or that of a form's field `image`, or else of its first file.

    Raises:
        Refused: if the type is another, or the form is broken or holds no file.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _FORM:
        return _file_of_form(body, content_type)
    if kind not in _TYPES:
        raise Refused(
            415,
            f"The content type {kind} is not known here: send {ACCEPTED} as the body (Content-Type: image/jpeg), or as "
            "the file of a form (curl -F image=@photo.jpg).",
        )
    return body


def check_header(data: bytes, limits: ServeLimits) -> None:
    """Look at the header of a picture: its format and size, before anything is decoded.

    Raises:
        Refused: if it is no picture, of another format, or too large.
    """
    if not data:
        raise Refused(400, "The request holds no picture.")
    if len(data) > limits.megabytes * 1e6:
        raise _too_large(int(limits.megabytes * 1e6))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit comes below
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                width, height = opened.size
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits) from error
    except UnidentifiedImageError as error:
        raise _no_picture(data) from error
    except Exception as error:  # a plugin of Pillow may raise anything on bytes that were made to hurt
        raise Refused(400, f"The picture cannot be read: {type(error).__name__}.") from error
    if width * height > limits.megapixels * 1e6:
        raise _too_many_pixels(limits)


def _no_picture(data: bytes) -> Refused:
    other = next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = "HEIC, AVIF or a film"
    if other:
        return Refused(415, f"This is {other}: send {ACCEPTED}.")
    return Refused(400, f"This is no picture: send {ACCEPTED}.")


def _too_large(most: int) -> Refused:
    return Refused(413, f"The picture is larger than {most / 1e6:.3g} MB: make it smaller.")


def _too_many_pixels(limits: ServeLimits) -> Refused:
    return Refused(413, f"The picture has more than {limits.megapixels:g} million pixels: make it smaller.")


def _file_of_form(body: bytes, content_type: str) -> bytes:
    found = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s;]{1,70}))', content_type, re.IGNORECASE)
    if not found:
        raise Refused(400, "The form has no boundary.")
    files = dict(_files(body, (found[1] or found[2]).encode("latin-1", "replace")))
    if not files:
        raise Refused(400, "The form holds no file: send one in the field 'image' (curl -F image=@photo.jpg).")
    return files.get("image") or next(iter(files.values()))


def _files(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a form by the names of their fields [RFC 7578]."""
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise Refused(400, "The form is cut off, or its boundary is another.")
    for part in parts[1:-1]:
        head, separator, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        disposition = re.search(rb"content-disposition:[^\r\n]*", head, re.IGNORECASE)
        if not separator or disposition is None or b"filename" not in disposition[0].lower():
            continue
        name = re.search(rb'[; ]name="?([^";]*)', disposition[0], re.IGNORECASE)
        yield (name[1].decode("utf-8", "replace") if name else ""), content
