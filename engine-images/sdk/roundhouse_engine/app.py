"""The application: routes, the headers on every answer, and the one place where errors become answers."""

import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roundhouse_engine.accelerator import ACCELERATOR
from roundhouse_engine.door import Door
from roundhouse_engine.errors import EngineError, Problem, invalid, unforeseen
from roundhouse_engine.handler import Handler
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models import ModelStatus
from roundhouse_engine.naming import renamed
from roundhouse_engine.routes import speech_routes, text_routes
from roundhouse_engine.settings import Settings
from roundhouse_engine.upload import ClientGone

access = logging.getLogger("roundhouse_engine.access")

# A client's own id is echoed and logged where it can do no harm in either place.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_HEADS: Final = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_PROBES: Final = ("/health/", "/metrics")


def build_app(handler: type[Handler], settings: Settings, door: Door, metrics: Metrics) -> ASGIApp:
    views = _Views(handler, door, metrics)
    routes = [
        Route("/health/live", views.live),
        Route("/health/ready", views.ready),
        Route("/metrics", views.metrics),
        Route("/v1/models", views.models),
        *speech_routes(handler, settings, door, metrics),
        *text_routes(handler, settings, door, metrics),
    ]
    # Outermost, so that an unforeseen error's answer is marked as well.
    return EveryAnswer(application(routes), door=door, instance=settings.pod_uid)


def application(routes: Sequence[BaseRoute]) -> ASGIApp:
    """The routes, and errors in the shape that all of them answer with."""
    handlers = {
        EngineError: _engine_error,
        HTTPException: _http_error,
        ClientGone: _gone,
        Exception: _unforeseen,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a path is right or wrong
    return app


class _Views:
    """The small routes."""

    def __init__(self, handler: type[Handler], door: Door, metrics: Metrics) -> None:
        self._handler = handler
        self._door = door
        self._metrics = metrics
        self._created = int(time.time())

    async def live(self, _: Request) -> Response:
        if self._door.hung:
            return JSONResponse({"status": "hung"}, status_code=503)
        if ACCELERATOR.lost:
            return JSONResponse({"status": "accelerator lost"}, status_code=503)
        return JSONResponse({"status": "live"})

    async def ready(self, _: Request) -> Response:
        door = self._door
        body = {
            "status": "draining" if door.draining else "ready" if door.ready else "loading",
            "models": [{"name": model.name, **life(model)} for model in door.models],
            "slots": {"ready": door.capacity, "total": door.slots},
            **_memory(door),
        }
        return JSONResponse(body, status_code=200 if door.ready else 503)

    async def metrics(self, _: Request) -> Response:
        return Response(await self._metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def models(self, _: Request) -> Response:
        data = [
            {
                "id": model.name,
                "object": "model",
                "created": self._created,
                "owned_by": "roundhouse",
                **life(model),
                "capacity": model.capacity,
                "inUse": model.in_use,
                "cancelStep": self._handler.cancel_step.value,
                "loaded": model.loaded,
                **({} if model.vram_bytes is None else {"vramBytes": model.vram_bytes}),
                **({} if model.memory_bytes is None else {"memoryBytes": model.memory_bytes}),
                **_sessions(model),
            }
            for model in self._door.models
        ]
        about = {"object": "list", "generation": self._door.generation, **_memory(self._door)}
        return JSONResponse(about | {"data": data})


def life(model: ModelStatus) -> dict[str, Any]:
    told = {"state": model.state.value, "progress": round(model.progress, 3)}
    return told | ({"error": model.error} if model.error else {})


def _memory(door: Door) -> dict[str, Any]:
    told = door.memory
    if told is None:
        return {}
    return {"memory": {"budgetBytes": told.budget_bytes, "neededBytes": told.needed_bytes}}


def _sessions(model: ModelStatus) -> dict[str, Any]:
    if model.sessions is None:
        return {}
    in_use, capacity = model.sessions
    return {"sessions": {"capacity": capacity, "inUse": in_use}}


class EveryAnswer:
    """Puts the engine's load, its pod and the request's id on each answer, and writes the access log."""

    def __init__(self, app: ASGIApp, *, door: Door, instance: str) -> None:
        self._app = app
        self._door = door
        self._instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        status = 499  # a client that leaves gets no answer
        waits = Headers(scope=scope).get("expect", "").lower() == "100-continue"

        async def receive_marked() -> Message:
            nonlocal waits
            waits = False  # the server tells the client to go on
            return await receive()

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] in _HEADS:
                status = message.get("status", 101)
                headers = MutableHeaders(scope=message)
                self._mark(headers, request_id)
                if waits:  # it never sends this body, so what it sends next would be taken for it
                    headers["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive_marked, send_marked)
        finally:
            _log(scope, status, request_id, time.monotonic() - begun)

    def _mark(self, headers: MutableHeaders, request_id: str) -> None:
        headers["X-Request-Id"] = request_id
        headers.setdefault("X-Roundhouse-Load", f"{self._door.in_use}/{self._door.capacity}")
        if self._instance:
            headers["X-Roundhouse-Instance"] = self._instance
        if self._door.draining and "X-Roundhouse-Reason" not in headers:
            # Not on a refusal: its body is still on the way, and closing on it would lose the answer.
            headers["Connection"] = "close"


def _log(scope: Scope, status: int, request_id: str, seconds: float) -> None:
    path = scope["path"]
    level = logging.DEBUG if path.startswith(_PROBES) and status < 500 else logging.INFO
    fields = {
        "method": scope.get("method", "WS"),
        "path": path,
        "status": status,
        "seconds": round(seconds, 4),
        "request_id": request_id,
    }
    if model := scope.get("roundhouse.model"):
        fields["model"] = model
    if close := scope.get("roundhouse.close"):
        fields["close"] = close
    access.log(level, "%s %s %d", fields["method"], path, status, extra=fields)


async def _engine_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineError)  # noqa: S101 - starlette's handlers take any exception
    return _answer(renamed(error.problem, request.scope))


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: an unknown path, a method that a path does not have."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = "method_not_allowed" if status == 405 else "not_found"
    message = f"There is no {request.method} {request.url.path} here."
    answer = _answer(invalid(message, code=code, status=status).problem)
    answer.headers.update(getattr(error, "headers", None) or {})  # which methods the path has
    return answer


async def _gone(_: Request, error: Exception) -> Response:  # noqa: ARG001 - nobody reads the answer
    return Response(status_code=499)


async def _unforeseen(_: Request, error: Exception) -> Response:
    # The server logs the traceback.
    return _answer(unforeseen(error).problem)


def _answer(problem: Problem) -> Response:
    return JSONResponse({"error": problem.envelope}, problem.status, problem.headers)
