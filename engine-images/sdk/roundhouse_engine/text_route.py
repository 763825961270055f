"""What all routes of texts have in common: from the request's first byte to the answer's last.

The order is the contract, as of recordings: admit, or refuse before the body is read; read it; check it;
compute while watching whether the client is still there and has time; answer. The place is free again before
the end of an answer is written.
"""

import asyncio
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from roundhouse_engine.door import Door, take_place
from roundhouse_engine.errors import EngineError, unforeseen
from roundhouse_engine.json_body import Fields, checked, read_body
from roundhouse_engine.lease import Lease
from roundhouse_engine.leaving import deadline_of, left, unless_gone
from roundhouse_engine.metrics import UNKNOWN_MODEL, Metrics
from roundhouse_engine.naming import public_name, renamed
from roundhouse_engine.settings import Settings
from roundhouse_engine.upload import ClientGone

logger = logging.getLogger(__name__)

_CLIENT_GONE: Final = 499
_JSON: Final = b"application/json"
_EVENTS: Final = b"text/event-stream; charset=utf-8"
_PIECE_BYTES: Final = 1 << 16
_STEP_SECONDS: Final = 0.002
"""So long others wait at most while an answer is written."""


class Asked(Protocol):
    """A request, checked."""

    @property
    def model(self) -> str: ...


A = TypeVar("A", bound=Asked)


class Reply:
    """The answer as far as it is written; a stream of events may begin while the work goes on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.streams = False
        """Whether it has begun as a stream of events, so that an error can be one of them."""
        self.model = ""
        """As its client knows it."""
        self.media_type = _JSON
        """Of an answer that is no stream of events."""
        self.headers: list[tuple[bytes, bytes]] = []

    async def events(self, all_data: Iterable[object]) -> None:
        if not self.begun:
            self.streams = True
            await self._begin(_EVENTS)
        if body := b"".join(map(event, all_data)):
            await self._more(body)

    async def end(self, parts: Iterable[bytes]) -> None:
        """The rest. Others have their turn while a large one is made; a small one is sent in one go."""
        made, until = bytearray(), time.perf_counter() + _STEP_SECONDS
        for part in parts:
            made += part
            if len(made) >= _PIECE_BYTES or time.perf_counter() > until:
                if not self.begun:
                    await self._begin(self.media_type)
                await self._more(bytes(made))
                made.clear()
                await asyncio.sleep(0)
                until = time.perf_counter() + _STEP_SECONDS
        if not self.begun:
            await self._begin(self.media_type, (b"content-length", str(len(made)).encode()))
        await self._send({"type": "http.response.body", "body": bytes(made)})

    async def _begin(self, media_type: bytes, *more: tuple[bytes, bytes]) -> None:
        self.begun = True
        headers = [(b"content-type", media_type), (b"cache-control", b"no-store"), *self.headers, *more]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _more(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class TextRoute(ABC, Generic[A]):
    """An ASGI application: it must see the request before its body."""

    def __init__(self, settings: Settings, door: Door, metrics: Metrics) -> None:
        self._settings = settings
        self._door = door
        self._metrics = metrics

    @abstractmethod
    def read(self, fields: Fields, served: tuple[str, ...]) -> A:
        """The request, checked; raises `EngineError` with `param` set."""

    @abstractmethod
    async def compute(self, lease: Lease, ask: A, reply: Reply) -> Iterable[bytes]:
        """Compute, and return the answer, or what comes after the events that were sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        scope["roundhouse.model"] = UNKNOWN_MODEL
        reply = Reply(send)
        status = 500  # of what nobody foresaw
        try:
            await self._answer(scope, receive, reply)
            status = 200
        except ClientGone:
            status = _CLIENT_GONE
        except Exception as error:
            told = error if isinstance(error, EngineError) else unforeseen(error)
            status = told.problem.status
            if not reply.streams:
                raise
            if told is not error:
                logger.exception("a stream broke off", extra={"model": scope["roundhouse.model"]})
            await reply.end([event({"error": renamed(told.problem, scope).envelope})])
        finally:
            model = scope["roundhouse.model"]
            self._metrics.requests.labels(model, str(status)).inc()
            if status == 200:
                self._metrics.request_seconds.labels(model).observe(time.monotonic() - begun)

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        headers = Headers(scope=scope)
        settings = self._settings
        with self._door.admit() as lease:
            deadline = deadline_of(headers)
            async with lease.upload():
                body = await read_body(
                    receive,
                    headers,
                    limit_bytes=settings.body_limit_bytes,
                    idle_seconds=settings.upload_idle_seconds,
                )
                # Here and not where the body is read, in a thread: the loop changes what this looks at.
                served = self._door.names
                ask = await checked(
                    body, lambda fields: self._read(fields, served, scope), receive, left(deadline)
                )
                reply.model = public_name(scope, ask.model)
                await take_place(self._door, ask.model, lease, receive, deadline)
            rest = await unless_gone(receive, self.compute(lease, ask, reply), left(deadline))
        with self._door.answers.another():
            await reply.end(rest)

    def _read(self, fields: Fields, served: tuple[str, ...], scope: Scope) -> A:
        """The request, checked; what is wrong with it is told, and counted, of the model that it names."""
        scope["roundhouse.model"] = fields.model(served)
        return self.read(fields, served)
