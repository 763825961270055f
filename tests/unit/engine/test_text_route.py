"""What routes of texts have in common."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from starlette.types import Message, Receive, Scope
from typing_extensions import override

from roundhouse_engine import json_body
from roundhouse_engine.embeddings import Embeddings
from roundhouse_engine.errors import EngineError
from roundhouse_engine.large_json import SMALL_BYTES
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models import ModelStatus
from roundhouse_engine.pool import Pool
from roundhouse_engine.settings import read_settings
from roundhouse_engine.text_route import Reply
from tests.conformance.engine.text_handlers import Vectors


class Watched(Pool):
    """Admits always, and notes which threads look at it."""

    asked_by: ClassVar[set[str]] = set()

    @override
    def admit(self) -> Lease:
        return Lease(self)

    @override
    def __getattribute__(self, name: str) -> Any:
        Watched.asked_by.add(threading.current_thread().name)
        return super().__getattribute__(name)

    @property
    @override
    def models(self) -> tuple[ModelStatus, ...]:
        raise AssertionError("for its names alone no model is asked how it is")


class Breaking(Embeddings):
    """Fails behind the first of its events, or in the middle of a large answer."""

    def __init__(self, door: Pool, *, streams: bool) -> None:
        super().__init__(Vectors, read_settings({"MODELS": "m"}, Vectors), door, door.metrics)
        self._streams = streams

    @override
    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        if self._streams:
            await reply.events([{"number": 1}])
            await reply.events([{"number": object()}])
        await reply.end(self._parts())

    def _parts(self) -> Iterator[bytes]:
        yield b"[" + b"1," * SMALL_BYTES
        raise ValueError("a number that is none")


class Client:
    """Sends a large body, and leaves when it is told to."""

    def __init__(self) -> None:
        self.sent, self.left = asyncio.Event(), asyncio.Event()

    async def receive(self) -> Message:
        if self.sent.is_set():
            await self.left.wait()
            return {"type": "http.disconnect"}
        self.sent.set()
        body = json.dumps({"model": "m", "input": ["x" * SMALL_BYTES, 5]}).encode()
        return {"type": "http.request", "body": body}


async def ask(door: Pool, scope: Scope, client: Client) -> None:
    async def send(message: Message) -> None:
        raise AssertionError(message)

    route = Embeddings(Vectors, read_settings({"MODELS": "m"}, Vectors), door, door.metrics)
    await route(scope, client.receive, send)


@contextlib.contextmanager
def line_that_stands() -> Iterator[None]:
    """As behind a body whose reading takes seconds."""
    moves = threading.Event()
    json_body._reader.submit(moves.wait)
    try:
        yield
    finally:
        moves.set()


async def test_the_thread_that_reads_a_large_body_looks_at_nothing_that_the_loop_changes() -> None:
    """A set that grows while another thread walks through it is an error for whoever sent the body."""
    door = Watched([], Metrics(), ["m"])
    with pytest.raises(EngineError) as told:
        await ask(door, {"type": "http", "headers": []}, Client())
    assert told.value.problem.param == "input", "it was read"
    assert Watched.asked_by == {threading.main_thread().name}


async def test_who_leaves_while_large_bodies_stand_in_line_leaves_the_line() -> None:
    """Else each reload of a page puts the same megabytes into it again, before everybody else's."""
    scope: Scope = {"type": "http", "headers": []}
    door, client = Watched([], Metrics(), ["m"]), Client()
    with line_that_stands():
        asking = asyncio.create_task(ask(door, scope, client))
        await client.sent.wait()
        client.left.set()
        async with asyncio.timeout(60):
            await asking
    counted = door.metrics.registry.get_sample_value
    assert counted("roundhouse_engine_requests_total", {"model": "unknown", "code": "499"}) == 1
    await asyncio.wrap_future(json_body._reader.submit(int))  # whose turn is after that of who left
    assert scope["roundhouse.model"] == "unknown", "it was not read"


async def test_a_deadline_ends_the_time_in_the_line() -> None:
    scope: Scope = {"type": "http", "headers": [(b"x-roundhouse-deadline-ms", b"1")]}
    with line_that_stands(), pytest.raises(EngineError) as told:
        async with asyncio.timeout(60):
            await ask(Watched([], Metrics(), ["m"]), scope, Client())
    assert told.value.problem.code == "deadline_exceeded"


@pytest.mark.parametrize("streams", [True, False], ids=["events", "one answer"])
async def test_a_stream_that_breaks_off_says_so_and_another_answer_is_cut(
    streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where its headers are on the way, an error can only be an event; within JSON it would be none."""
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    door = Watched([], Metrics(), ["m"])
    route = Breaking(door, streams=streams)
    with contextlib.nullcontext() if streams else pytest.raises(ValueError, match="a number that is none"):
        await route({"type": "http", "headers": []}, Client().receive, send)
    assert (b'"code":"engine_failure"' in sent[-1]) == streams
    assert ("Object of type object is not JSON serializable" in caplog.text) == streams
    counted = door.metrics.registry.get_sample_value
    assert counted("roundhouse_engine_requests_total", {"model": "unknown", "code": "500"}) == 1
