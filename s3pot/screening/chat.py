"""One request to an OpenAI-compatible chat endpoint: a picture and a question go out, text comes back.

vLLM, SGLang, llama.cpp and hosted services answer `POST <url>/chat/completions`. A failure says what it means for what
comes next: try again, give up this picture, or stop, because every other picture would fail alike.

The key travels in the Authorization header and nowhere else: redirects are not followed, and a server that repeats the
key in a message has it blotted out. Proxies of the environment are not used.
"""

import base64
import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from s3pot.screening.question import Question

_LARGEST_REPLY = 4 * 2**20
_BLOCK = 1 << 16
_TRY_AGAIN = frozenset({408, 409, 425, 429})
# Wrong key, wrong address or a model that is not there: no picture can do better.
_STOP = frozenset({401, 402, 403, 404, 405})


class TryAgain(Exception):
    """The request may succeed later.

    Attributes:
        wait: seconds that the server asked us to wait; 0 = it did not say.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class PictureRefused(Exception):
    """The server does not take this request, and would not later."""


class EndpointRefused(Exception):
    """The server takes no request of ours: wrong key, address or model."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A vision-language model behind an OpenAI-compatible server.

    Attributes:
        url: base address, such as http://127.0.0.1:8000/v1; pictures are sent there.
        model: what the server calls the model.
        api_key_variable: environment variable with the key, set wherever workers run; none = no key is sent.
        max_side: long side of the pictures that are sent, in pixels; larger ones are shrunk.
        max_tokens: most tokens of an answer.
        temperature: of the sampling, at least 0; 0 = always the likeliest.
        json_schema: have the server hold the model to the form of the answer (`response_format`).
        timeout: seconds for one request, from connecting to the last byte.
    """

    url: str
    model: str
    api_key_variable: str | None = None
    max_side: int = 672
    max_tokens: int = 200
    temperature: float = 0.0
    json_schema: bool = True
    timeout: float = 120.0

    def __post_init__(self) -> None:
        """Check the address, which is stored and shown: no secret may be in it; and ranges."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must look like http://127.0.0.1:8000/v1, got {self.url}")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("url must hold neither password nor query: a key belongs into api_key_variable")
        if not self.model:
            raise ValueError("model must not be empty")
        if self.max_side < 28 or self.max_tokens < 1:
            raise ValueError(f"max_side must be at least 28 and max_tokens 1, got {self.max_side}, {self.max_tokens}")
        if self.temperature < 0.0 or self.timeout <= 0.0:
            raise ValueError(f"temperature must be at least 0 and timeout more, got {self.temperature}, {self.timeout}")

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return urlsplit(self.url).netloc

    def api_key(self) -> str | None:
        """Take the key from the environment; None where none is needed.

        Raises:
            EndpointRefused: if the variable is not set.
        """
        if self.api_key_variable is None:
            return None
        key = os.environ.get(self.api_key_variable, "").strip()
        if not key:
            raise EndpointRefused(
                f"the environment variable {self.api_key_variable} is not set on {socket.gethostname()}: set it there "
                "(in the pod's Secret, or before the cluster is started), not in a runtime environment, which is shown"
            )
        return key


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        text: what the model said.
        complete: whether it was done; False when it ran into `max_tokens`.
        prompt_tokens: tokens of picture and question as the server counts them; None when it does not say.
        completion_tokens: tokens of the answer; None when it does not say.
    """

    text: str
    complete: bool
    prompt_tokens: int | None
    completion_tokens: int | None


def ask_once(endpoint: Endpoint, question: Question, jpeg: bytes, key: str | None = None) -> Reply:
    """Ask about one picture, once.

    Args:
        endpoint: where.
        question: what.
        jpeg: the picture, as it is sent.
        key: bearer token.

    Raises:
        TryAgain: too many requests, a server's error, a cut or slow connection, or an answer that is none.
        PictureRefused: any other refusal.
        EndpointRefused: a refusal that holds for every picture, or a redirect.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "s3pot", "Connection": "close"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    status, answered, body = _post(endpoint, json.dumps(request_body(endpoint, question, jpeg)).encode(), headers)
    if status == 200:
        return _reply(body)
    said = f"{endpoint.host} answered {status}: {_one_line(body, key)}"
    if status in _TRY_AGAIN or status >= 500:
        raise TryAgain(said, _retry_after(answered))
    if status in _STOP or status < 400:
        raise EndpointRefused(said)
    raise PictureRefused(said)


def request_body(endpoint: Endpoint, question: Question, jpeg: bytes) -> dict[str, Any]:
    """Return what is sent, the picture as a data URL."""
    picture = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": question.words}]
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": "system", "content": question.system}, {"role": "user", "content": content}],
        "max_tokens": endpoint.max_tokens,
        "temperature": endpoint.temperature,
    }
    if endpoint.json_schema:
        schema = {"name": "answer", "strict": True, "schema": question.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _post(endpoint: Endpoint, body: bytes, headers: dict[str, str]) -> tuple[int, Message, bytes]:
    parts = urlsplit(endpoint.url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=endpoint.timeout)
    started = time.monotonic()
    try:
        connection.connect()
        with _deadline(connection.sock, endpoint.timeout - (time.monotonic() - started)):
            connection.request("POST", f"{parts.path.rstrip('/')}/chat/completions", body, headers)
            with connection.getresponse() as response:
                return response.status, response.headers, _read(response)
    except TimeoutError as error:
        raise TryAgain(f"{endpoint.host} did not answer within {endpoint.timeout:g} s") from error
    except (OSError, HTTPException) as error:
        raise TryAgain(f"{endpoint.host}: {type(error).__name__}: {str(error)[:200]}") from error
    finally:
        connection.close()


@contextmanager
def _deadline(connected: socket.socket, seconds: float) -> Iterator[None]:
    """Hang up after so many seconds: a socket's own time-out begins again with every byte that drips in.

    Raises:
        TimeoutError: if it came to that.
    """
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        try:
            connected.shutdown(socket.SHUT_RDWR)
        except OSError:  # it was closed just now
            pass

    timer = threading.Timer(max(0.0, seconds), hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


def _read(response: HTTPResponse) -> bytes:
    """Read a reply, whole: `HTTPResponse.read(n)` does not tell when a connection ends before its length."""
    data = b""
    while block := response.read(_BLOCK):
        data += block
        if len(data) > _LARGEST_REPLY:
            raise HTTPException(f"the answer is longer than {_LARGEST_REPLY} bytes")
    if response.length:
        raise HTTPException(f"the connection was cut {response.length} bytes before the end")
    return data


def _reply(body: bytes) -> Reply:
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        message = choice["message"]
        # A hosted model that declines says so in a field of its own.
        text = message["content"] if message["content"] is not None else message["refusal"]
        usage = found.get("usage") or {}
        if not isinstance(text, str):
            raise TypeError("its content is no text")
        return Reply(
            text=text,
            complete=choice.get("finish_reason") != "length",
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise TryAgain(f"the answer is no chat completion ({type(error).__name__}): {_one_line(body, None)}") from error


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _retry_after(headers: Message) -> float:
    """Read `Retry-After`, seconds or a date; 0 when it is absent or makes no sense."""
    written = headers.get("Retry-After", "").strip()
    try:
        seconds = float(written)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(written).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _one_line(body: bytes, key: str | None) -> str:
    text = " ".join(body.decode("utf-8", errors="replace").split())
    return (text.replace(key, "***") if key else text)[:300]
