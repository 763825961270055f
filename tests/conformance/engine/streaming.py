"""A client of the realtime protocol: sends raw audio as a microphone would, and checks every event's form."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from roundhouse_api.realtime import PATH, Event, Transcript, read_event
from tests.support.recordings import TEST_DATA

PIECE_SECONDS = 0.1
FINAL = "transcript.final"
DEADLINE = 120.0
"""For what takes a second on an idle machine."""


def go_forward_samples() -> bytes:
    return (TEST_DATA / "goforward.raw").read_bytes()


@dataclass
class Stream:
    """One session of a test."""

    socket: ClientConnection
    seen: list[Event] = field(default_factory=list)

    async def send(self, audio: bytes, *, byte_rate: int = 32_000, pace: float = 20.0) -> None:
        """In pieces of 100 ms, so many times faster than it was spoken."""
        size = int(PIECE_SECONDS * byte_rate)
        for start in range(0, len(audio), size):
            await self.socket.send(audio[start : start + size])
            await asyncio.sleep(PIECE_SECONDS / pace)

    async def send_on(self, audio: bytes, *, pace: float) -> None:
        """Again and again, until the session is over."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.send(audio, pace=pace)

    async def say(self, kind: str, **fields: str) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def next(self) -> Event:
        text = await asyncio.wait_for(self.socket.recv(), DEADLINE)
        assert isinstance(text, str), "events are text"
        event = read_event(text)
        assert set(json.loads(text)) <= set(event.model_dump(by_alias=True)), (
            "fields are those of the protocol"
        )
        self.seen.append(event)
        return event

    async def until(self, kind: str) -> Any:
        while (event := await self.next()).type != kind:
            pass
        return event

    async def rest(self) -> tuple[int, str]:
        """Everything until the close frame: its code and reason."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.next()
        code, reason = self.socket.close_code, self.socket.close_reason
        assert code not in (None, 1006), f"cut off without a close frame, after {self.kinds}"
        return code, reason or ""

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.seen]

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.seen if isinstance(event, Transcript)]


@asynccontextmanager
async def streaming(
    port: int,
    query: Mapping[str, str],
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[Subprotocol] | None = None,
) -> AsyncIterator[Stream]:
    """A session that has begun, its handshake done."""
    url = f"ws://127.0.0.1:{port}{PATH}?{urlencode(query)}"
    async with connect(
        url, additional_headers=headers, subprotocols=subprotocols, open_timeout=DEADLINE, proxy=None
    ) as socket:
        yield Stream(socket)


async def heard_live(port: int, samples: bytes, *, pace: float, **query: str) -> Stream:
    """A session to its end, of 16 kHz samples sent so many times as fast as they are spoken."""
    async with streaming(port, query) as stream:
        await stream.send(samples, pace=pace)
        await stream.say("end")
        assert (await stream.rest())[0] == 1000
    return stream


def final_texts(stream: Stream) -> list[str]:
    return [event.text for event in stream.seen if isinstance(event, Transcript) and event.type == FINAL]
