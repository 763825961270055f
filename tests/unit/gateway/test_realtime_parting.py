"""A client that changes what it wants just as its engine dies: no real one dies so punctually."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.types import Message

from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.realtime.call import Call
from roundhouse_gateway.realtime.credentials import Credentials
from roundhouse_gateway.realtime.early import Room
from roundhouse_gateway.realtime.leaving import Leaving
from roundhouse_gateway.realtime.openai import OpenAI
from roundhouse_gateway.realtime.pumps import Bounds
from roundhouse_gateway.realtime.sessions import Sessions

LONG = 10.0


class DyingEngine:
    """Takes audio, then nothing any more; that it is gone was not heard yet."""

    async def send_bytes(self, data: bytes) -> None: ...

    async def send_str(self, _: str) -> None:
        raise ConnectionResetError("Cannot write to closing transport")

    async def receive(self) -> None:
        await asyncio.Event().wait()


class Engines:
    def __init__(self) -> None:
        self.leaving = Leaving(LONG)

    def check(self, *_: object) -> None:
        """Each model is there, and listens."""

    @asynccontextmanager
    async def open(self, *_: object) -> AsyncIterator[DyingEngine]:
        yield DyingEngine()


async def test_an_engine_that_has_died_is_parted_from_without_its_last_words() -> None:
    said: list[dict[str, Any]] = []
    updated = asyncio.Event()
    language = {"transcription": {"language": "en"}}
    orders = [
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        {"type": "session.update", "session": {"type": "transcription", "audio": {"input": language}}},
    ]

    async def receive() -> Message:
        if orders:
            return {"type": "websocket.receive", "text": json.dumps(orders.pop(0))}
        await updated.wait()
        return {"type": "websocket.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            said.append(json.loads(message["text"]))
            if said[-1]["type"] == "session.updated":
                updated.set()

    with Room().early(receive) as early:
        call = Call({}, early, send, Exchange("WS", "/", "r", "p"), Credentials("", {}, None))
    async with asyncio.timeout(LONG):
        await OpenAI(cast("Sessions", Engines()), Bounds(LONG, LONG)).serve(call)
    assert [each["type"] for each in said] == ["session.created", "session.updated"]
