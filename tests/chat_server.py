"""An OpenAI-compatible chat server on this machine, with the faults of real ones.

It looks at the picture that it is sent, so that an answer which lands at another picture is seen.
"""

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from s3pot.screening.question import Question

Fault = str | int | None
COLOURS = ("red", "green", "blue")
QUESTION = Question(
    system="Look closely.",
    text="Is the face covered?\n{labels}",
    labels={"occluded": "something covers it", "free": "nothing does"},
    chosen=("occluded",),
)


_STATUSES = {"redirect": 307, "echo": 401, "echo400": 400}


def answer(label: str, reason: str = "a hand over the mouth") -> str:
    return json.dumps({"reason": reason, "label": label})


@dataclass
class Asked:
    """A request as it came."""

    time: float
    headers: dict[str, str]
    body: dict[str, Any]
    picture: np.ndarray
    fault: Fault

    @property
    def colour(self) -> str:
        """The strongest colour of the picture."""
        return COLOURS[int(self.picture.mean(axis=(0, 1)).argmax())]


@dataclass
class ChatServer:
    """What is answered, and what was asked.

    Attributes:
        text: what the model says of a picture, by its strongest colour.
        fault: what goes wrong, by colour and how often this colour was asked about before; a status, or one of `slow`,
            `drip`, `garbage`, `no_choices`, `no_text`, `cut`, `cut_unsaid`, `hang_up`, `redirect`, `refusal`, `length`,
            `endless`, `echo` and `echo400` (401 and 400 that repeat the key).
        retry_after: header of 429 and 503.
        seconds: how long `slow` takes.
        asked: every request, in order.
    """

    text: dict[str, str] = field(default_factory=lambda: {"red": answer("occluded"), "green": answer("free", "clear")})
    fault: Callable[[str, int], Fault] = lambda colour, before: None
    retry_after: str | None = None
    seconds: float = 5.0
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    _before: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        body = json.loads(request.rfile.read(length))
        [url] = [part["image_url"]["url"] for part in body["messages"][1]["content"] if part["type"] == "image_url"]
        kind, _, data = url.partition(",")
        assert kind == "data:image/jpeg;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
        asked = Asked(time.monotonic(), dict(request.headers), body, picture, None)
        with self._lock:
            asked.fault = self.fault(asked.colour, self._before[asked.colour])
            self._before[asked.colour] += 1
            self.asked.append(asked)
        self._answer(request, asked)

    def _answer(self, request: BaseHTTPRequestHandler, asked: Asked) -> None:
        fault, text = asked.fault, self.text.get(asked.colour, answer("free"))
        usage = {"prompt_tokens": 700, "completion_tokens": 20}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        finish = "stop"
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I cannot look at faces."}
        elif fault == "no_text":
            message = {"role": "assistant", "content": [1, 2]}
        elif fault == "length":
            message["content"], finish = text[: len(text) // 2], "length"
        reply: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
        data = json.dumps({"choices": []} if fault == "no_choices" else reply).encode()
        if fault == "garbage":
            data = b"<html><body>502 behind a proxy that says 200</body></html>"
        if fault == "hang_up":
            return
        if fault == "slow":
            time.sleep(self.seconds)
        self._send(request, asked, data)

    def _send(self, request: BaseHTTPRequestHandler, asked: Asked, data: bytes) -> None:
        fault = asked.fault
        status = fault if isinstance(fault, int) else _STATUSES.get(str(fault))
        if status is not None:
            echo = str(fault).startswith("echo")
            data = f"wrong key: {asked.headers.get('Authorization')}".encode() if echo else b'{"error": "no"}'
            request.send_response(status)
            if fault == "redirect":
                request.send_header("Location", self.url.replace("/v1", "/elsewhere"))
            if self.retry_after is not None:
                request.send_header("Retry-After", self.retry_after)
        else:
            request.send_response(200)
        if fault != "cut_unsaid" and fault != "endless":
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if fault in ("cut", "cut_unsaid"):
            data = data[: len(data) // 2]
        if fault == "drip":
            for byte in data:
                request.wfile.write(bytes([byte]))
                time.sleep(self.seconds / len(data))
            return
        for _ in range(8 if fault == "endless" else 1):
            request.wfile.write(data + b" " * (2**20 if fault == "endless" else 0))


@contextmanager
def chatting(**settings: Any) -> Iterator[ChatServer]:
    """Serve at `ChatServer.url` until the block ends."""
    server = ChatServer(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                assert self.path == "/v1/chat/completions", self.path
                server.take(self)
            except (BrokenPipeError, ConnectionResetError):  # who asked has hung up
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.block_on_close = False
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def coloured(colour: str, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A picture of one colour, (H, W, 3) uint8."""
    picture = np.full((*size, 3), 20, dtype=np.uint8)
    picture[..., COLOURS.index(colour)] = 200
    return picture
