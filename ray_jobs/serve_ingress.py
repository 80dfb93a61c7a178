"""The HTTP side of `s3pot serve`: receives, checks, asks the models, answers. Holds no model and decodes no picture.

    POST /segment   a photograph -> masks               GET /healthz   this process runs
    POST /decode    other prompts -> mask               GET /readyz    the models are loaded and were tried
    GET  /          the page                            GET /metrics   counts, for Prometheus

A slow or huge client costs one coroutine here and a bounded number of bytes; it never reaches the models. Pictures live
in memory and in Ray's object store (far below its size, so that nothing is spilled to a disk), and in no log.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ray_jobs.serve_limits import HeldBytes, ServeLimits
from ray_jobs.serve_messages import Refused
from ray_jobs.serve_metrics import CONTENT_TYPE, ServeMetrics
from ray_jobs.serve_page import read_page
from ray_jobs.serve_reading import check_header, held_body, most_bytes, picture_in, read_wanted
from ray_jobs.serve_sessions import Sessions

_log = logging.getLogger("ray.serve")
_MOST_JSON = 131_072  # two lists of all tokens of an official SAM
_COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Ingress:
    """The deployment that speaks HTTP.

    Args:
        models: deployment of `ModelReplica`.
        limits: what clients may ask for.
        deployment: name of that of the models, to ask Serve how it is.
    """

    def __init__(self, models: DeploymentHandle, limits: ServeLimits, deployment: str) -> None:
        self._models, self._limits, self._deployment = models, limits, deployment
        self._ready = False
        self._held = HeldBytes(int(limits.held_megabytes * 1e6))
        self._sessions = Sessions(int(limits.session_megabytes * 1e6), 60 * limits.session_minutes)
        self._metrics = ServeMetrics()
        self._page = read_page()
        self._routes: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "/": ("GET", self._show_page),
            "/example": ("GET", self._example),
            "/segment": ("POST", self._segment),
            "/decode": ("POST", self._decode),
            "/healthz": ("GET", self._health),
            "/readyz": ("GET", self._readiness),
            "/metrics": ("GET", self._show_metrics),
        }

    async def __call__(self, request: Request) -> Response:
        """Answer a request; whatever is wrong with it is a sentence in JSON."""
        started, path = time.perf_counter(), request.url.path
        with self._metrics.in_flight.track_inprogress():
            try:
                response = await self._route(path, request)
            except Refused as refused:
                response = _refusal(refused)
            except Exception:
                _log.exception("%s %s", request.method, path if path in self._routes else "another path")
                response = _refusal(Refused(500, "Something went wrong here; the server's log says what."))
        for name, value in _COMMON_HEADERS.items():
            response.headers.setdefault(name, value)
        known = path if path in self._routes else "other"
        self._metrics.request(known, response.status_code, time.perf_counter() - started)
        return response

    async def _route(self, path: str, request: Request) -> Response:
        if path not in self._routes:
            raise Refused(404, "There is nothing here; photographs go to POST /segment, the page is at /.")
        method, answer = self._routes[path]
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            response = _refusal(Refused(405, f"{path} takes {method}, not {request.method[:20]}."))
            response.headers["Allow"] = method
            return response
        return await answer(request)

    async def _segment(self, request: Request) -> Response:
        started = time.perf_counter()
        wanted = read_wanted(request.query_params, request.headers.get("accept", ""))
        await self._check_ready()
        kind = request.headers.get("content-type", "")
        most = most_bytes(self._limits, kind)
        async with held_body(request, most, self._limits.read_seconds, self._held) as body:
            data = picture_in(body, kind)
            check_header(data, self._limits)
            received = time.perf_counter()
            answer = await self._ask(self._models.segment.remote(data, wanted))
        spent = {"read": 1000 * (received - started)} | answer.milliseconds
        total = 1000 * (time.perf_counter() - started)
        # Passing the picture on, and waiting for a replica to be free, is waiting too.
        spent["wait"] += max(0.0, total - sum(spent.values()))
        self._metrics.photograph(answer.statuses, answer.batch, spent)
        if isinstance(answer.body, bytes):
            return Response(answer.body, media_type="image/png", headers={"X-S3POT-Status": ",".join(answer.statuses)})
        for number, state in answer.states.items():
            answer.body["faces"][number - 1]["stages"]["id"] = self._sessions.add(state)
        timings = {name: round(value, 1) for name, value in (spent | {"total": total}).items()}
        return JSONResponse(answer.body | {"batch": answer.batch, "timings_ms": timings})

    async def _decode(self, request: Request) -> Response:
        wanted = read_wanted(request.query_params, "application/json")
        async with held_body(request, _MOST_JSON, self._limits.read_seconds, self._held) as body:
            name, occlusion, face = _read_prompts(body)
        state = self._sessions.get(name)
        answer = await self._ask(self._models.decode.remote(state, occlusion, face, wanted))
        timings = {stage: round(value, 1) for stage, value in answer.milliseconds.items()}
        return JSONResponse(answer.body | {"timings_ms": timings})

    async def _ask(self, asked: DeploymentResponse) -> Any:
        """Wait for the models.

        Raises:
            Refused: if they are busy, lost, or too slow, or refuse by themselves.
        """
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                answer = await asked
        except TimeoutError as error:
            asked.cancel()  # nobody waits for it: its place in the queue goes to another
            raise Refused(504, f"There was no answer within {self._limits.answer_seconds:g} s.") from error
        except BackPressureError as error:
            raise Refused(503, "Too many photographs are waiting; try again in a few seconds.") from error
        except (RayActorError, DeploymentUnavailableError) as error:
            self._ready = False
            raise Refused(503, "The models stopped, and are being started again; try again in a minute.") from error
        if isinstance(answer, Refused):
            raise answer
        return answer

    async def _check_ready(self) -> None:
        if not self._ready and not await self._models_run():
            raise Refused(503, "The models are being loaded; try again in a few seconds.")

    async def _models_run(self) -> bool:
        """Ask Serve; a replica counts as running once it was made, hence loaded and tried."""
        status = await asyncio.to_thread(serve.status)
        # A file of Serve may call the application as it likes.
        there = status.applications.get(serve.get_replica_context().app_name)
        models = there.deployments.get(self._deployment) if there else None
        self._ready = models is not None and models.replica_states.get("RUNNING", 0) > 0
        return self._ready

    async def _show_page(self, request: Request) -> Response:
        return Response(self._page.html, media_type="text/html", headers={"Content-Security-Policy": self._page.policy})

    async def _example(self, request: Request) -> Response:
        await self._check_ready()
        return Response(await self._ask(self._models.example.remote()), media_type="image/jpeg")

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readiness(self, request: Request) -> Response:
        if await self._models_run():
            return JSONResponse({"status": "ready"})
        raise Refused(503, "The models are being loaded.")

    async def _show_metrics(self, request: Request) -> Response:
        self._sessions.forget_old()
        self._metrics.sessions.set(len(self._sessions))
        self._metrics.session_bytes.set(self._sessions.held)
        self._metrics.held_bytes.set(self._held.now)
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _read_prompts(body: bytes) -> tuple[str, list[int], list[int]]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The request is no JSON.") from error
    keys = {"id", "occlusion_prompts", "face_prompts"}
    if not isinstance(content, dict) or set(content) != keys or not isinstance(content["id"], str):
        raise Refused(422, 'Send {"id": ..., "occlusion_prompts": [numbers], "face_prompts": [numbers]}.')
    chosen = content["occlusion_prompts"], content["face_prompts"]
    if not all(isinstance(some, list) and all(type(token) is int for token in some) for some in chosen):
        raise Refused(422, "Prompts are lists of numbers.")
    if len({*chosen[0], *chosen[1]}) != len(chosen[0]) + len(chosen[1]):
        raise Refused(422, "A token is a prompt once at most.")
    return content["id"], *chosen


def _refusal(refused: Refused) -> Response:
    # Closed, for there may be more of the request to come, which nobody wants to read.
    headers = {"Connection": "close"} if refused.status in (400, 408, 413, 415, 422, 503) else {}
    if refused.status == 503:
        headers["Retry-After"] = "3"
    return JSONResponse({"error": refused.sentence}, status_code=refused.status, headers=headers)
