"""From untrusted bytes to a picture: forms, types, sizes, and what is wanted."""

import asyncio
import email.message
import io
import struct
import time
import zlib
from collections.abc import AsyncIterator

import pytest
from PIL import Image
from starlette.requests import Request

from ray_jobs.serve_limits import HeldBytes, ServeLimits
from ray_jobs.serve_messages import Refused, Wanted
from ray_jobs.serve_reading import check_header, held_body, most_bytes, picture_in, read_wanted

LIMITS = ServeLimits(megabytes=0.05, megapixels=0.02, held_megabytes=0.1)


def picture(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 40)).save(buffer, format=kind)
    return buffer.getvalue()


def form(*parts: tuple[str, str | None, bytes], boundary: str = "x-Y'z") -> tuple[bytes, str]:
    body = b""
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: image/png\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f'multipart/form-data; boundary="{boundary}"'


@pytest.mark.parametrize(
    ("query", "accept", "wanted"),
    [
        ({}, "*/*", Wanted()),
        ({"mask": "png", "overlay": "true", "stages": "1"}, "", Wanted(mask="png", overlay=True, stages=True)),
        ({"overlay": "0"}, "image/png", Wanted(picture=True)),
        ({}, "text/html, image/png;q=0.8, */*", Wanted(picture=True)),
        ({}, "application/json, image/png", Wanted()),
    ],
)
def test_what_is_wanted(query: dict[str, str], accept: str, wanted: Wanted) -> None:
    assert read_wanted(query, accept) == wanted


@pytest.mark.parametrize(
    ("query", "words"),
    [({"mask": "gif"}, "rle, png, none"), ({"stages": "maybe"}, "neither"), ({"overlai": "1"}, "'overlay'")],
)
def test_unknown_options_are_named(query: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        read_wanted(query, "")
    assert refused.value.status == 422


# Bytes that would end a part if boundaries were looked for carelessly, and every line end there is.
AWKWARD = b"\r\n--x\r\n\r\n--\n\r\x00\xff--x-Y'z\n\r\n" + bytes(range(256))


def test_a_file_of_a_form_comes_out_byte_for_byte() -> None:
    body, kind = form(("note", None, b"hello"), ("image", "a.png", AWKWARD), ("other", "b.png", b"no"))
    assert picture_in(body, kind) == AWKWARD
    # An independent reading of the same form.
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    assert message.get_payload()[0].get_payload() == "hello"
    body, kind = form(("first", "a.png", b"1"), ("second", "b.png", b"2"), boundary="b")
    assert picture_in(body, kind) == b"1"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (form(("note", None, b"hello"))[0], 'multipart/form-data; boundary="x-Y\'z"', 400),  # no file
        (form(("image", "a", b"1"))[0][:-10], 'multipart/form-data; boundary="x-Y\'z"', 400),  # cut off
        (form(("image", "a", b"1"))[0], "multipart/form-data; boundary=other", 400),
        (form(("image", "a", b"1"))[0], "multipart/form-data", 400),
        (b"", "multipart/form-data; boundary=b", 400),
        (picture("PNG"), "application/x-www-form-urlencoded", 415),
        (b"{}", "application/json", 415),
    ],
)
def test_what_is_no_form_and_no_picture_type(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        picture_in(body, kind)
    assert refused.value.status == status


def bomb(width: int, height: int) -> bytes:
    """A PNG of 45 bytes that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"no picture at all", 400),
        (picture("GIF"), 415),
        (picture("BMP"), 415),
        (picture("TIFF"), 415),
        (b"\0\0\0\x18ftypheic" + bytes(20), 415),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), 400),
        (picture("PNG")[:20], 400),
        (picture("PNG", (200, 101)), 413),
        (bomb(12_000, 12_000), 413),  # Pillow warns
        (bomb(60_000, 60_000), 413),  # Pillow refuses
        (picture("PNG") + bytes(50_000), 413),
    ],
)
@pytest.mark.filterwarnings("error")
def test_headers_that_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        check_header(data, LIMITS)
    assert refused.value.status == status
    assert refused.value.sentence.endswith(".")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_at_the_limit_pass(kind: str) -> None:
    data = picture(kind, (200, 100))
    check_header(data, LIMITS)
    assert picture_in(data, f"image/{kind.lower()}") == data
    assert picture_in(data, "") == data


def request_of(chunks: list[bytes], headers: dict[str, str], *, pause: float = 0.0, cut: bool = False) -> Request:
    async def receive() -> dict:
        await asyncio.sleep(pause)
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks) or cut}
        return {"type": "http.disconnect"}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def receive_all(request: Request, held: HeldBytes, seconds: float = 5.0, most: int = 100) -> bytes:
    async def run() -> bytes:
        async with held_body(request, most, seconds, held) as body:
            assert held.now == len(body)
            return body

    return asyncio.run(run())


def test_a_body_is_held_while_it_is_used_and_no_longer() -> None:
    held = HeldBytes(150)
    assert receive_all(request_of([b"a" * 60, b"b" * 40], {}), held) == b"a" * 60 + b"b" * 40
    assert held.now == 0


def test_an_announced_body_that_is_too_large_is_not_read() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("was read")

    request = request_of([b"a"], {"content-length": "101"})
    request._receive = never  # type: ignore[assignment]
    with pytest.raises(Refused) as refused:
        receive_all(request, HeldBytes(1000))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (request_of([b"a" * 60] * 1000, {}), 413),
        (request_of([b"a" * 10] * 1000, {}, pause=0.02), 408),
        (request_of([b"a" * 10], {}, cut=True), 400),
        (request_of([b"a" * 10], {"content-encoding": "gzip"}), 415),
    ],
    ids=["endless", "slow", "cut off", "encoded"],
)
def test_bodies_that_are_given_up(request_: Request, status: int) -> None:
    held, started = HeldBytes(1000), time.monotonic()
    with pytest.raises(Refused) as refused:
        receive_all(request_, held, seconds=0.1)
    assert refused.value.status == status
    assert held.now == 0
    assert time.monotonic() - started < 5


def test_all_requests_together_hold_no_more_than_they_may() -> None:
    held = HeldBytes(100)

    async def both() -> list[object]:
        async def one() -> bytes:
            async with held_body(request_of([b"a" * 60], {}), 100, 5, held) as body:
                await asyncio.sleep(0.05)
                return body

        return await asyncio.gather(one(), one(), return_exceptions=True)

    first, second = asyncio.run(both())
    assert first == b"a" * 60
    assert isinstance(second, Refused)
    assert second.status == 503
    assert held.now == 0


def test_a_form_may_be_larger_than_its_picture() -> None:
    assert most_bytes(LIMITS, "image/png") == 50_000
    assert most_bytes(LIMITS, "multipart/form-data; boundary=x") > 50_000 + 1000
