"""What stands before realtime sessions, and beside them for as long as they last: pages, traces, keys."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from roundhouse_api.keys import Grant, Issued, issue
from roundhouse_api.realtime import PATH, Close
from tests.conformance.engine.streaming import DEADLINE
from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.keys import KEYS, put, put_known
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant
from tests.conformance.gateway.test_front import APP, PARENT, TRACE, Collector
from tests.support import servers
from tests.support.waiting import eventually

MakeWorld = Callable[[Mapping[str, str]], World]
LISTENER = Variant("listener", streaming="Chunked", interfaces=("Batch", "Realtime"))
STRANGER = "https://evil.example.com"
LET_IN, REFUSED = "session.begin", "origin_not_allowed"


class Listener:
    """An engine that takes every session, says that it has begun, and listens until its client leaves."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self.handshakes: list[Mapping[str, str]] = []
        app = web.Application()
        app.router.add_get(PATH, self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        thread.run(self._start())

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append({name.lower(): value for name, value in request.headers.items()})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "session.begin"})
        async for _ in socket:
            pass
        return socket

    def behind(self, world: World) -> None:
        """Of that world's gateway from now on, and nobody has asked yet."""
        self.handshakes.clear()
        world.run(LISTENER, self._runner.addresses[0][1])

    def close(self) -> None:
        self._thread.run(servers.end(self._runner))


@pytest.fixture(scope="module")
def listener(loop_thread: LoopThread) -> Iterator[Listener]:
    made = Listener(loop_thread)
    yield made
    made.close()


def session(world: World, headers: Mapping[str, str] | None = None, query: str = "") -> connect:
    url = f"ws://127.0.0.1:{world.gateway.port}{PATH}?model={LISTENER.id}{query}"
    return connect(url, additional_headers=headers, proxy=None)


async def told(socket: ClientConnection) -> dict[str, Any]:
    """The next event, whatever it is."""
    event: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))
    return event


async def begun(socket: ClientConnection) -> None:
    first = await told(socket)
    assert first["type"] == LET_IN, first


async def answer_to(world: World, headers: Mapping[str, str]) -> str:
    """The first event of a session, or the code of the refusal of its handshake."""
    try:
        async with session(world, headers) as socket:
            return str((await told(socket))["type"])
    except InvalidStatus as refused:
        return str(json.loads(refused.response.body or b"")["error"]["code"])


def from_page(origin: str) -> dict[str, str]:
    return {"Origin": origin} if origin else {}


async def test_where_no_key_is_asked_for_pages_of_other_origins_open_nothing(
    world: World, listener: Listener
) -> None:
    listener.behind(world)
    own = f"http://127.0.0.1:{world.gateway.port}"
    cases = {"": LET_IN, own: LET_IN, STRANGER: REFUSED, "null": REFUSED, own + "0": REFUSED}
    found = {origin: await answer_to(world, from_page(origin)) for origin in cases}
    assert found == cases
    assert len(listener.handshakes) == 2


async def test_pages_that_are_named_and_those_that_are_not(own_world: MakeWorld, listener: Listener) -> None:
    world = own_world({"CORS_ORIGINS": APP})
    listener.behind(world)
    cases = {APP: LET_IN, "": LET_IN, STRANGER: REFUSED}
    found = {origin: await answer_to(world, from_page(origin)) for origin in cases}
    assert found == cases

    async def is_counted() -> bool:
        return world.gateway.metric("roundhouse_gateway_requests_total", route=PATH, code="403") == 1

    await eventually(is_counted, seconds=30, what="the refusal is counted")


async def test_where_no_page_is_named_one_that_has_a_key_is_let_in(keyed: World, listener: Listener) -> None:
    listener.behind(keyed)
    assert await answer_to(keyed, from_page(STRANGER) | bearer(keyed.gateway.key)) == LET_IN


async def test_a_trace_goes_on_with_a_session_too(world: World, listener: Listener) -> None:
    listener.behind(world)
    async with session(world, {"traceparent": PARENT, "tracestate": "a=1"}) as socket:
        await begun(socket)
    (handshake,) = listener.handshakes
    assert (handshake["traceparent"], handshake["tracestate"]) == (PARENT, "a=1")


async def test_a_session_is_a_span_where_a_collector_is_named(
    own_world: MakeWorld, loop_thread: LoopThread, listener: Listener
) -> None:
    collector = Collector(loop_thread)
    try:
        world = own_world({"OTLP_ENDPOINT": collector.url})
        listener.behind(world)
        async with session(world, {"traceparent": PARENT}) as socket:
            await begun(socket)
            await socket.close(1000)
        async with session(world, query="&language=no-language") as socket:
            await asyncio.wait_for(socket.wait_closed(), DEADLINE)
        assert world.gateway.stop(60) == 0
    finally:
        collector.close()
    spans = [span for span in collector.spans if span.name == f"WS {PATH}"]
    assert len(spans) == 2
    first = next(span for span in spans if span.trace_id.hex() == TRACE)
    assert listener.handshakes[0]["traceparent"] == f"00-{TRACE}-{first.span_id.hex()}-01"
    assert first.status.code != first.status.STATUS_CODE_ERROR


def new_key(world: World, name: str, grant: Grant) -> Issued:
    issued = issue(grant)
    put_known(world, name, issued)
    return issued


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def token_of(world: World, key: Issued) -> str:
    path = "/v1/single-use-token/realtime_scribe"
    return str(world.gateway.request("POST", path, b"", bearer(key.text)).json["token"])


async def how_it_ends(socket: ClientConnection) -> tuple[str, int | None]:
    """The code of the last event, and of the close frame behind it."""
    last: dict[str, Any] = {}
    with contextlib.suppress(ConnectionClosed):
        while True:
            last = await told(socket)
    return last["error"]["code"], socket.close_code


async def test_a_session_ends_with_the_key_that_it_was_begun_with(keyed: World, listener: Listener) -> None:
    listener.behind(keyed)
    gone, spoilt, other = (new_key(keyed, name, Grant(name=name)) for name in ("gone", "spoilt", "other"))
    async with (
        session(keyed, bearer(gone.text)) as by_key,
        session(keyed, query=f"&token={token_of(keyed, gone)}") as by_token,
        session(keyed, bearer(spoilt.text)) as by_spoilt,
        session(keyed, bearer(other.text)) as goes_on,
    ):
        for socket in (by_key, by_token, by_spoilt, goes_on):
            await begun(socket)
        keyed.api.delete("secrets", KEYS, "gone")
        put(keyed, "spoilt", {**spoilt.data, "scopes": ""})
        for socket in (by_key, by_token, by_spoilt):
            assert await how_it_ends(socket) == ("invalid_api_key", Close.UNAUTHENTICATED)
        await goes_on.send(b"1234")
        await goes_on.close(1000)


async def test_a_token_that_limits_refuse_is_not_used_up(keyed: World, listener: Listener) -> None:
    listener.behind(keyed)
    key = new_key(keyed, "narrow", Grant(name="narrow", max_concurrent=1))
    query = f"&token={token_of(keyed, key)}"
    async with session(keyed, bearer(key.text)) as first:
        await begun(first)
        async with session(keyed, query=query) as second:
            assert await how_it_ends(second) == ("concurrency_limit_exceeded", Close.LIMIT)

    async def is_taken() -> bool:
        async with session(keyed, query=query) as third:
            return bool((await told(third))["type"] == LET_IN)

    await eventually(is_taken, seconds=60, what="the place is given back, and the token is good still")
    async with session(keyed, query=query) as fourth:
        assert await how_it_ends(fourth) == ("invalid_api_key", Close.UNAUTHENTICATED)
