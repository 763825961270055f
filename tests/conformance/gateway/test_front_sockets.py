"""What stands before realtime sessions, and beside them for as long as they last: pages, traces, keys."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from roundhouse_api.realtime import PATH
from tests.conformance.engine.streaming import DEADLINE
from tests.conformance.gateway.conftest import World, a_world
from tests.conformance.gateway.keys import KEYS, hand_to_owner
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.manifests import Variant, slice_of
from tests.conformance.gateway.test_front import APP, PARENT, TRACE, Collector

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
        port = self._runner.addresses[0][1]
        world.api.put("endpointslices", slice_of(LISTENER.name, port, namespace=LISTENER.namespace))
        world.publish(LISTENER)
        world.wait_for(LISTENER.id, "running")

    def close(self) -> None:
        self._thread.run(self._runner.cleanup())


@pytest.fixture
def listener(loop_thread: LoopThread) -> Iterator[Listener]:
    made = Listener(loop_thread)
    yield made
    made.close()


def session(world: World, headers: Mapping[str, str] | None = None, query: str = "") -> connect:
    url = f"ws://127.0.0.1:{world.gateway.port}{PATH}?model={LISTENER.id}{query}"
    return connect(url, additional_headers=headers, proxy=None)


async def begun(socket: ClientConnection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), DEADLINE))
    return told


async def answer_to(world: World, headers: Mapping[str, str]) -> str:
    """The first event of a session, or the code of the refusal of its handshake."""
    try:
        async with session(world, headers) as socket:
            return str((await begun(socket))["type"])
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
    assert world.gateway.metric("roundhouse_gateway_requests_total", route=PATH, code="403") == 1


@pytest.fixture(scope="module")
def keyed(loop_thread: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with a_world(loop_thread, tmp_path_factory.mktemp("keyed"), {"KEYS_NAMESPACE": KEYS}) as made:
        hand_to_owner(made)
        yield made


async def test_where_no_page_is_named_one_that_has_a_key_is_let_in(keyed: World, listener: Listener) -> None:
    listener.behind(keyed)
    headers = {"Origin": STRANGER, "Authorization": f"Bearer {keyed.gateway.key}"}
    assert await answer_to(keyed, headers) == LET_IN


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
