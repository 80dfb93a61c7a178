"""The HTTP side with stand-ins for the models: what goes wrong behind it becomes a sentence and a status."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from starlette.requests import Request
from starlette.responses import Response

from ray_jobs.serve_ingress import Ingress
from ray_jobs.serve_limits import ServeLimits
from ray_jobs.serve_messages import Answer, Refused, Wanted

LIMITS = ServeLimits(megabytes=1, megapixels=1, held_megabytes=2, answer_seconds=0.2, read_seconds=1)
buffer = io.BytesIO()
Image.new("RGB", (8, 6)).save(buffer, format="PNG")
PICTURE = buffer.getvalue()
ANSWER = Answer(
    body={"status": "ok", "faces": [{"face": 1, "stages": {"aligned": "data:"}}]},
    statuses=["ok"],
    states={1: b"state of face 1"},
    milliseconds={"decode": 1.0, "wait": 2.0, "locate": 3.0, "models": 4.0, "answer": 5.0},
    batch=3,
)


class Asked:
    """An answer that is under way; as in Serve, it goes on when nobody waits, unless it is cancelled."""

    def __init__(self, answer: Awaitable[Any]) -> None:
        self._task = asyncio.ensure_future(answer)
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.shield(self._task).__await__()

    def cancel(self) -> None:
        self.cancelled = True


class Models:
    """Answers as a handle of Serve does."""

    def __init__(self, answer: Callable[..., Awaitable[Any]]) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._answer = answer

    def __getattr__(self, name: str) -> "Models":
        return self

    def remote(self, *arguments: Any) -> Asked:
        self.asked.append(arguments)
        self.last = Asked(self._answer(*arguments))
        return self.last


def answering(value: Any) -> Models:
    async def answer(*arguments: Any) -> Any:
        if isinstance(value, BaseException) and not isinstance(value, Refused):
            raise value
        return value

    return Models(answer)


def ingress_of(models: Models, limits: ServeLimits = LIMITS, ready: bool = True) -> Ingress:
    ingress = Ingress(models, limits, "models")  # type: ignore[arg-type]

    async def run() -> bool:
        ingress._ready = ready
        return ready

    ingress._models_run = run  # type: ignore[method-assign]
    return ingress


def ask(ingress: Ingress, method: str, url: str, body: bytes = b"", **headers: str) -> Response:
    path, _, query = url.partition("?")
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw}
    return asyncio.run(ingress(Request(scope, receive)))


def content(response: Response) -> Any:
    return json.loads(bytes(response.body))


def test_a_photograph_goes_to_the_models_as_it_came() -> None:
    models = answering(replace(ANSWER, body=dict(ANSWER.body)))  # type: ignore[arg-type]
    response = ask(ingress_of(models), "POST", "/segment?mask=png&stages=true", PICTURE, content_type="image/png")
    assert response.status_code == 200
    assert models.asked == [(PICTURE, Wanted(mask="png", stages=True))]
    told = content(response)
    assert told["batch"] == 3
    assert set(told["timings_ms"]) == {"read", "decode", "wait", "locate", "models", "answer", "total"}
    parts = sum(value for name, value in told["timings_ms"].items() if name != "total")
    assert parts >= told["timings_ms"]["total"] - 1


def test_other_prompts_go_with_the_state_that_was_held() -> None:
    first = answering(ANSWER)
    ingress = ingress_of(first)
    face = content(ask(ingress, "POST", "/segment?stages=true", PICTURE))["faces"][0]
    question = {"id": face["stages"]["id"], "occlusion_prompts": [1, 2], "face_prompts": []}
    first._answer = answering(Answer(body={"score": 0.5}, statuses=["ok"], milliseconds={"models": 1.0}))._answer
    response = ask(ingress, "POST", "/decode?mask=none", json.dumps(question).encode())
    assert first.asked[-1] == (b"state of face 1", [1, 2], [], Wanted(mask="none"))
    assert content(response) == {"score": 0.5, "timings_ms": {"models": 1.0}}
    assert first.asked[0][0] == PICTURE
    question["id"] = "guessed"
    assert ask(ingress, "POST", "/decode", json.dumps(question).encode()).status_code == 404


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b'{"id": "a", "occlusion_prompts": [1]}', 422),
        (b'{"id": "a", "occlusion_prompts": [1], "face_prompts": [true]}', 422),
        (b'{"id": "a", "occlusion_prompts": [1], "face_prompts": [1]}', 422),
        (b'{"id": 3, "occlusion_prompts": [1], "face_prompts": [2]}', 422),
        (b" " * 200_000, 413),
    ],
)
def test_questions_that_are_none(question: bytes, status: int) -> None:
    response = ask(ingress_of(answering(ANSWER)), "POST", "/decode", question)
    assert response.status_code == status
    assert content(response)["error"].endswith(".")


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        (Refused(400, "It is broken."), 400, "broken"),
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), 503, "waiting"),
        (RayActorError(), 503, "started again"),
        (RuntimeError("secret /path"), 500, "log"),
    ],
)
def test_what_goes_wrong_behind_is_a_sentence(value: BaseException, status: int, words: str) -> None:
    ingress = ingress_of(answering(value))
    response = ask(ingress, "POST", "/segment", PICTURE)
    assert response.status_code == status
    assert words in content(response)["error"]
    assert "secret" not in content(response)["error"]
    assert (response.headers.get("retry-after") is not None) == (status == 503)
    assert ingress._held.now == 0


def test_models_that_take_too_long_are_not_waited_for() -> None:
    async def slow(*arguments: Any) -> None:
        await asyncio.sleep(30)

    models = Models(slow)
    response = ask(ingress_of(models), "POST", "/segment", PICTURE)
    assert response.status_code == 504
    assert "0.2 s" in content(response)["error"]
    assert models.last.cancelled


def test_nothing_is_read_before_the_models_are_there() -> None:
    models = answering(ANSWER)
    ingress = ingress_of(models, ready=False)
    for method, url in (("POST", "/segment"), ("GET", "/readyz"), ("GET", "/example")):
        response = ask(ingress, method, url, PICTURE)
        assert response.status_code == 503
        assert "loaded" in content(response)["error"]
    assert ask(ingress, "GET", "/healthz").status_code == 200
    assert models.asked == []


def test_bad_requests_never_reach_the_models() -> None:
    models = answering(ANSWER)
    ingress = ingress_of(models)
    cases = [
        ("POST", "/segment", b"text", 400),
        ("POST", "/segment", b"GIF89a", 415),
        ("POST", "/segment", bytes(1_200_000), 413),
        ("POST", "/segment?maks=png", PICTURE, 422),
        ("GET", "/segment", b"", 405),
        ("DELETE", "/", b"", 405),
        ("GET", "/nothing", b"", 404),
        ("GET", "/../etc/passwd", b"", 404),
    ]
    for method, url, body, status in cases:
        response = ask(ingress, method, url, body)
        assert response.status_code == status, (method, url)
        assert content(response)["error"].endswith((".", "?"))
    assert models.asked == []
    counted = ask(ingress, "GET", "/metrics").body.decode()  # type: ignore[union-attr]
    assert 's3pot_requests_total{path="other",status="404"} 2.0' in counted
    assert "passwd" not in counted


def test_every_answer_is_kept_by_nobody() -> None:
    ingress = ingress_of(answering(ANSWER))
    for method, url in (("GET", "/"), ("GET", "/healthz"), ("GET", "/metrics"), ("POST", "/segment"), ("GET", "/no")):
        response = ask(ingress, method, url, PICTURE)
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"


def test_a_mask_comes_as_a_picture_with_its_status() -> None:
    picture = replace(ANSWER, body=b"\x89PNG", states={}, statuses=["no_face"])
    response = ask(ingress_of(answering(picture)), "POST", "/segment", PICTURE, accept="image/png")
    assert (response.body, response.media_type) == (b"\x89PNG", "image/png")
    assert response.headers["x-s3pot-status"] == "no_face"
