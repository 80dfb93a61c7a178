"""A server of one file on this machine, with the faults of real ones."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served, and what was asked for.

    Attributes:
        content: the bytes of the file; may be changed between requests.
        ranges: go on in the middle when asked to.
        cut_after: bytes of the answer after which the connection is closed, for the first `cuts` answers.
        cuts: how many answers are cut.
        status: answer with this and nothing else.
        redirect: send everybody there.
        length: say how long the answer is.
        shift: answer from so many bytes later than was asked for.
        asked: the Range header of every request, or None.
    """

    content: bytes
    ranges: bool = True
    cut_after: int = 0
    cuts: int = 0
    status: int | None = None
    redirect: str | None = None
    length: bool = True
    shift: int = 0
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if self.redirect or self.status:
            request.send_response(302 if self.redirect else self.status or 500)
            if self.redirect:
                request.send_header("Location", self.redirect)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body, found = self.content, re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if found and self.ranges:
            start, total = int(found[1]) + self.shift, len(self.content)
            if start >= total:
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{total}")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            body = body[start:]
        else:
            request.send_response(200)
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cuts:
            self.cuts -= 1
            body = body[: self.cut_after]
        request.wfile.write(body)


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve bytes at `FileServer.url` until the block ends."""
    server = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}/weights.pth"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
