"""`WS /v1/audio/transcriptions/stream`: who gets a session, and what is known of it afterwards.

Accepting the WebSocket is the reservation: whoever cannot be served is refused before, with an HTTP answer
as for recordings. What goes over it is the protocol of `roundhouse_api.realtime`, which tests hold both
sides to; the session itself is in `session`.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from roundhouse_engine.door import Door
from roundhouse_engine.errors import EngineError, Problem, Refusal, invalid, refused
from roundhouse_engine.events import Ask
from roundhouse_engine.lag import Lag
from roundhouse_engine.lease import Lease
from roundhouse_engine.leaving import unless_gone
from roundhouse_engine.metrics import UNKNOWN_MODEL, Metrics
from roundhouse_engine.naming import renamed
from roundhouse_engine.pool import Pool
from roundhouse_engine.realtime_speech import RealtimeSpeech
from roundhouse_engine.session import (
    AHEAD_BYTES,
    AHEAD_BYTES_IN_ALL,
    Bounds,
    Client,
    Ending,
    Runner,
    Session,
)
from roundhouse_engine.session_socket import gone_of
from roundhouse_engine.settings import Settings
from roundhouse_engine.speech import Speech
from roundhouse_engine.stream_ask import StreamAsk, read_stream_ask
from roundhouse_engine.upload import ClientGone

PATH: Final = "/v1/audio/transcriptions/stream"
VERSION: Final = 1
_LONGEST_MESSAGE: Final = 500
_CLIENT_GONE: Final = 499


class Realtime:
    """The route, as an ASGI application."""

    def __init__(self, handler: type[Speech], settings: Settings, door: Door, metrics: Metrics) -> None:
        self._handler = handler
        ahead = min(AHEAD_BYTES, AHEAD_BYTES_IN_ALL // max(settings.sessions, 1))
        self._bounds = Bounds(settings.session_idle_seconds, settings.drain_seconds, ahead)
        self._wait_seconds = settings.memory_wait_seconds
        self._door = door
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        scope["roundhouse.model"] = model = self._label(query.get("model", ()))
        await receive()  # that it wants to connect
        try:
            ask = self._checked(query)
            pool, lease = await self._admitted(ask, receive)
        except EngineError as error:
            self._metrics.sessions.labels(model, str(error.problem.status)).inc()
            await _deny(renamed(error.problem, scope), send)
            return
        except ClientGone:
            self._metrics.sessions.labels(model, str(_CLIENT_GONE)).inc()
            return
        with lease:
            load = f"{pool.in_use}/{pool.capacity}"
            headers = [(b"x-roundhouse-load", load.encode())]
            await send({"type": "websocket.accept", "headers": headers})
            ending = await self._hold(ask, pool, lease, Client(receive, send, gone_of(scope)))
        scope["roundhouse.close"] = ending.code
        self._metrics.sessions.labels(model, str(ending.code)).inc()

    async def _admitted(self, ask: StreamAsk, receive: Receive) -> tuple[Pool, Lease]:
        """A place for the session; waits where its model has to be loaded again."""
        if not self._door.away(ask.model):
            pool = _sessions_of(self._door.pool_of(ask.model))
            return pool, pool.admit()
        self._check_stays()
        return await unless_gone(receive, self._woken(ask.model))

    async def _woken(self, model: str) -> tuple[Pool, Lease]:
        """A place once the model is loaded again, and a slot is up; raises once the engine leaves."""
        try:
            async with asyncio.timeout(None) as waiting:
                calling_off = asyncio.create_task(self._call_off(waiting))
                try:
                    pool, lease = await self._door.once_loaded(model, self._admit_woken)
                    if not lease.placed:
                        await self._slot_for(pool, lease)
                    return pool, lease
                finally:
                    calling_off.cancel()
        except TimeoutError:
            raise refused(Refusal.DRAINING if self._door.draining else Refusal.LOADING) from None

    async def _slot_for(self, pool: Pool, lease: Lease) -> None:
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(lease)
            async with asyncio.timeout(self._wait_seconds), lease.upload():  # it may be evicted
                await lease.regain_place()
            if pool.draining:
                raise refused(Refusal.DRAINING)
            on_failure.pop_all()

    async def _call_off(self, waiting: asyncio.Timeout) -> None:
        await self._door.leaving()
        waiting.reschedule(0.0)

    def _admit_woken(self, models: Pool) -> tuple[Pool, Lease]:
        """The lease has no place yet where others have taken those that are up, and more come up."""
        self._check_stays()
        pool = _sessions_of(models)
        if pool.free or pool.in_use + pool.waiting >= pool.slots:
            return pool, pool.admit()
        lease = Lease(pool)
        lease.stand_by()
        pool.enter(lease)
        return pool, lease

    def _check_stays(self) -> None:
        """Raises where the engine leaves: a model that is away has no pool that would refuse."""
        if self._door.draining:
            raise refused(Refusal.DRAINING)

    def _checked(self, query: dict[str, list[str]]) -> StreamAsk:
        handler, served = self._handler, self._door.names
        if not issubclass(handler, RealtimeSpeech):
            raise _no_sessions()
        return read_stream_ask(query, handler, served)

    async def _hold(self, ask: StreamAsk, pool: Pool, lease: Lease, client: Client) -> Ending:
        """The session from its first event to its last."""
        lag = Lag(time.monotonic)
        session = Session(ask, self._bounds, lag, client)
        await session.begin(token_hex(12), VERSION)
        ours, theirs = socket.socketpair()
        with theirs, theirs.makefile("rb") as file:
            _, writer = await asyncio.open_unix_connection(sock=ours)
            work = lease.compute(Ask(ask.model, ask.options, 0.0, ask.stream), file)
            try:
                on_lag = self._metrics.lag_seconds.labels(ask.model).observe
                return await session.run(Runner(writer, work, pool.leaving), on_lag)
            finally:
                self._metrics.session_seconds.labels(ask.model).inc(lag.received)

    def _label(self, named: Sequence[str]) -> str:
        return named[0] if named and named[0] in self._door.names else UNKNOWN_MODEL


def _sessions_of(models: Pool) -> Pool:
    if models.sessions is None:
        raise _no_sessions()
    return models.sessions


def _no_sessions() -> EngineError:
    return invalid(
        "This engine takes no realtime sessions. Send a recording to /v1/audio/transcriptions.",
        param="model",
        code="unsupported_value",
    )


async def _deny(problem: Problem, send: Send) -> None:
    body = json.dumps({"error": problem.envelope}).encode()
    # Few clients read what follows the head of a refused handshake.
    said = json.dumps({"message": problem.message[:_LONGEST_MESSAGE], "param": problem.param})
    headers = {"Content-Type": "application/json", "X-Roundhouse-Error": said, **problem.headers}
    start: Message = {
        "type": "websocket.http.response.start",
        "status": problem.status,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})
