"""One request to a real server on this machine, which misbehaves in every way that servers do."""

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from s3pot.images import encode_jpeg
from s3pot.screening.chat import Endpoint, EndpointRefused, PictureRefused, TryAgain, ask_once
from tests.chat_server import QUESTION, answer, chatting, coloured

RED = encode_jpeg(coloured("red"))


def _endpoint(url: str, **changed: object) -> Endpoint:
    return Endpoint(**{"url": url, "model": "some/vlm", "timeout": 5.0, **changed})


def test_a_question_arrives_whole_and_its_answer_comes_back() -> None:
    with chatting() as server:
        reply = ask_once(_endpoint(server.url), QUESTION, RED, "s3cr3t")
    assert reply.text == answer("occluded")
    assert (reply.complete, reply.prompt_tokens, reply.completion_tokens) == (True, 700, 20)
    [asked] = server.asked
    assert asked.headers["Authorization"] == "Bearer s3cr3t"
    assert asked.body["model"] == "some/vlm"
    assert (asked.body["max_tokens"], asked.body["temperature"]) == (200, 0.0)
    assert asked.body["messages"][0] == {"role": "system", "content": "Look closely."}
    assert asked.body["messages"][1]["content"][1] == {"type": "text", "text": QUESTION.words}
    assert asked.body["response_format"]["json_schema"]["schema"] == QUESTION.schema
    assert np.abs(asked.picture.astype(int) - coloured("red")).max() < 10


def test_without_key_and_schema_neither_is_sent() -> None:
    with chatting() as server:
        ask_once(_endpoint(f"{server.url}/", json_schema=False), QUESTION, RED)
    [asked] = server.asked
    assert "Authorization" not in asked.headers
    assert "response_format" not in asked.body


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (429, "answered 429"),
        (408, "answered 408"),
        (500, 'answered 500: {"error": "no"}'),
        (503, "answered 503"),
        ("garbage", "no chat completion .*502 behind a proxy"),
        ("no_choices", "no chat completion"),
        ("no_text", "its content is no text|no chat completion"),
        ("cut", "cut .* bytes before the end"),
        ("cut_unsaid", "no chat completion"),
        ("hang_up", "RemoteDisconnected"),
        ("endless", "longer than"),
    ],
)
def test_what_may_be_better_next_time(fault: str | int, message: str) -> None:
    with chatting(fault=lambda colour, before: fault) as server, pytest.raises(TryAgain, match=message) as raised:
        ask_once(_endpoint(server.url), QUESTION, RED)
    assert raised.value.wait == 0.0


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_slow_server_is_left(fault: str) -> None:
    # Every byte of a dripping answer comes in time; all of it would take ten times as long.
    with chatting(fault=lambda colour, before: fault, seconds=8.0) as server:
        started = time.monotonic()
        with pytest.raises(TryAgain, match=r"did not answer within 0\.8 s"):
            ask_once(_endpoint(server.url, timeout=0.8), QUESTION, RED)
        assert time.monotonic() - started < 6.0, "it waited for the whole answer"


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(TryAgain, match="ConnectionRefusedError"):
            ask_once(_endpoint(url), QUESTION, RED)


@pytest.mark.parametrize(
    ("written", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        (timedelta(seconds=600), 500, 600),  # a date so long after now
        (timedelta(seconds=-600), 0, 0),
        ("-3", 0, 0),
        ("nan", 0, 0),
        ("inf", 0, 0),
        ("soon", 0, 0),
    ],
    ids=["7", "half", "date", "past", "negative", "nan", "inf", "word"],
)
def test_the_wait_that_a_server_asks_for(written: str | timedelta, least: float, most: float) -> None:
    if isinstance(written, timedelta):
        written = format_datetime(datetime.now(UTC) + written, usegmt=True)
    with (
        chatting(fault=lambda colour, before: 429, retry_after=written) as server,
        pytest.raises(TryAgain) as raised,
    ):
        ask_once(_endpoint(server.url), QUESTION, RED)
    assert least <= raised.value.wait <= most


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_picture_that_is_not_taken(status: int) -> None:
    with chatting(fault=lambda colour, before: status) as server, pytest.raises(PictureRefused, match=f"{status}"):
        ask_once(_endpoint(server.url), QUESTION, RED)


@pytest.mark.parametrize("fault", [401, 403, 404, "redirect"])
def test_a_server_that_takes_nothing(fault: str | int) -> None:
    with chatting(fault=lambda colour, before: fault) as server:
        with pytest.raises(EndpointRefused):
            ask_once(_endpoint(server.url), QUESTION, RED, "s3cr3t")
        assert len(server.asked) == 1, "a redirect was followed, key and picture with it"


def test_a_key_that_a_server_repeats_is_blotted_out() -> None:
    with chatting(fault=lambda colour, before: "echo") as server, pytest.raises(EndpointRefused) as raised:
        ask_once(_endpoint(server.url), QUESTION, RED, "s3cr3t")
    assert "wrong key: Bearer ***" in str(raised.value)


def test_a_refusal_and_a_cut_answer_are_replies() -> None:
    with chatting(fault=lambda colour, before: ("refusal", "length")[before]) as server:
        refusal = ask_once(_endpoint(server.url), QUESTION, RED)
        cut = ask_once(_endpoint(server.url), QUESTION, RED)
    assert (refusal.text, refusal.complete) == ("I cannot look at faces.", True)
    assert cut.complete is False
    assert answer("occluded").startswith(cut.text)


def test_the_key_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _endpoint("http://localhost/v1").api_key() is None
    endpoint = _endpoint("http://localhost/v1", api_key_variable="SOME_VLM_KEY")
    monkeypatch.setenv("SOME_VLM_KEY", " abc\n")
    assert endpoint.api_key() == "abc"
    assert "abc" not in repr(endpoint)
    monkeypatch.delenv("SOME_VLM_KEY")
    with pytest.raises(EndpointRefused, match="SOME_VLM_KEY is not set on"):
        endpoint.api_key()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "url must look like"),
        ({"url": "ftp://host/v1"}, "url must look like"),
        ({"url": "https://me:key@host/v1"}, "neither password nor query"),
        ({"url": "https://host/v1?key=abc"}, "neither password nor query"),
        ({"model": ""}, "model must not be empty"),
        ({"max_side": 10}, "max_side"),
        ({"temperature": -1.0}, "temperature"),
        ({"timeout": 0.0}, "timeout"),
    ],
)
def test_an_endpoint_that_cannot_be_used(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Endpoint(**{"url": "http://localhost/v1", "model": "m", **changed})
