"""What streams and sessions lose in time on their way through the gateway, against the way past it.

The gateway has the first core to itself; clients and engine share the last. Both ways are measured in turns.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median, quantiles
from typing import Final, cast
from urllib.request import urlopen

import uvloop
from typing_extensions import override

from tests.bench.backends import backend
from tests.bench.figure import Figure, Result
from tests.bench.gateway import CHAT, SPEECH, a_gateway, load_from_last_core
from tests.bench.live_engine import FRAME_SECONDS, FRAMES, STAMP
from tests.bench.machine import cpu_seconds, pin
from tests.bench.peers import MODEL

STREAMS: Final = 200
SESSIONS: Final = 1000
BEGUN_AT_ONCE: Final = 20
AUDIO_SECONDS: Final = 0.1
TALK_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 1.0
TICK_SECONDS: Final = 0.002
PATIENCE_SECONDS: Final = 60.0
ROUNDS: Final = 3
_AUDIO: Final = bytes(3200 - STAMP.size)
_SENT: Final = re.compile(rb'"content":"([\d.]+)"')
_TALKS: Final = replace(SPEECH, interfaces=("Batch", "Realtime"), streaming="Chunked")

LATER: Final = Figure("gateway", "frames of 200 streams, later than direct, median", "ms", "lower", aim=1)
LATER_99: Final = Figure("gateway", "the same, 99th percentile", "ms", "lower", aim=5)
FIRST: Final = Figure("gateway", "first frame, later than direct, median", "ms", "lower", aim=1)
AUDIO: Final = Figure("gateway", "audio of 1,000 sessions, later than direct, median", "ms", "lower")
AUDIO_99: Final = Figure("gateway", "audio of 1,000 sessions, 99th percentile", "ms", "lower", aim=100)
SHARE: Final = Figure("gateway", "processor of 1,000 sessions", "% of core", "lower", aim=100)
FIGURES: Final = (LATER, LATER_99, FIRST, AUDIO, AUDIO_99, SHARE)


@dataclass(slots=True)
class Delays:
    """In ms: of each frame, and from each request to its first frame."""

    frames: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


def measure() -> Iterator[Result]:
    with backend("live") as (_, engine_port), load_from_last_core() as first:
        with a_gateway(engine_port, variants=1, like=CHAT, keyed=True) as (gateway, _):
            pin(gateway.process.pid, first)
            yield from _streams(gateway.port, engine_port, gateway.key)
        with a_gateway(engine_port, variants=1, like=_TALKS, keyed=True) as (gateway, _):
            pin(gateway.process.pid, first)
            yield from _sessions(gateway.process.pid, gateway.port, engine_port, gateway.key)


def _streams(gateway_port: int, engine_port: int, key: str) -> Iterator[Result]:
    uvloop.run(_listen(gateway_port, key))  # the gateway's connections to the engine are there then
    pairs = [
        (uvloop.run(_listen(gateway_port, key)), uvloop.run(_listen(engine_port, key))) for _ in range(ROUNDS)
    ]
    yield Result(LATER, median(median(ours.frames) - median(direct.frames) for ours, direct in pairs))
    yield Result(LATER_99, median(_late(ours.frames) - _late(direct.frames) for ours, direct in pairs))
    yield Result(FIRST, median(median(ours.firsts) - median(direct.firsts) for ours, direct in pairs))


def _sessions(pid: int, gateway_port: int, engine_port: int, key: str) -> Iterator[Result]:
    used: list[float] = []

    def through() -> list[float]:
        found, share = uvloop.run(_talk(gateway_port, engine_port, key, lambda: cpu_seconds(pid)))
        used.append(share)
        return found

    pairs = [
        (through(), uvloop.run(_talk(engine_port, engine_port, key, time.process_time))[0])
        for _ in range(ROUNDS)
    ]
    yield Result(AUDIO, median(median(ours) - median(direct) for ours, direct in pairs))
    yield Result(AUDIO_99, median(_late(ours) for ours, _ in pairs))
    yield Result(SHARE, 100 * median(used))


def _late(delays: Sequence[float]) -> float:
    return quantiles(delays, n=100)[-1]


class _Listener(asyncio.Protocol):
    """Asks for one stream, and notes when its frames come."""

    def __init__(self, request: bytes, delays: Delays) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._delays = delays
        self._asked = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._asked = time.monotonic()
        cast("asyncio.Transport", transport).write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        for found in _SENT.findall(data):
            if self._asked:
                self._delays.firsts.append(1000 * (now - self._asked))
                self._asked = 0.0
            self._delays.frames.append(1000 * (now - float(found)))
        if b"[DONE]" in data and not self.ended.done():
            self.ended.set_result(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("a stream was cut off"))


async def _listen(port: int, key: str) -> Delays:
    """All streams to their end. They begin spread over a frame's time, as clients do."""
    loop, delays = asyncio.get_running_loop(), Delays()
    body = f'{{"model": "{MODEL}", "stream": true, "messages": []}}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    made = []
    for _ in range(STREAMS):
        transport, listener = await loop.create_connection(
            lambda: _Listener(request, delays), "127.0.0.1", port
        )
        made.append((transport, listener))
        await asyncio.sleep(FRAME_SECONDS / 10)
    async with asyncio.timeout(FRAMES * FRAME_SECONDS + PATIENCE_SECONDS):
        await asyncio.gather(*(listener.ended for _, listener in made))
    for transport, _ in made:
        transport.abort()
    return delays


class _Talker(asyncio.Protocol):
    """One session; what comes after its beginning is let pass."""

    def __init__(self, key: str) -> None:
        self.begun = asyncio.get_running_loop().create_future()
        self._key = key
        self._transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(
            f"GET /v1/audio/transcriptions/stream?model={MODEL} HTTP/1.1\r\nHost: bench\r\n"
            f"Authorization: Bearer {self._key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    @override
    def data_received(self, data: bytes) -> None:
        if b"session.begin" in data and not self.begun.done():
            self.begun.set_result(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(exc or ConnectionError("a session was refused"))

    def say(self) -> None:
        """A hundred milliseconds of audio, its mask of zeros."""
        self._transport.write(b"\x82\xfe\x0c\x80\0\0\0\0" + STAMP.pack(time.monotonic()) + _AUDIO)

    def leave(self) -> None:
        self._transport.abort()


async def _talk(
    port: int, engine_port: int, key: str, used: Callable[[], float]
) -> tuple[list[float], float]:
    """What the engine says of each frame's time, and the processor time that was used in each second."""
    loop = asyncio.get_running_loop()
    talkers: list[_Talker] = []
    for _ in range(SESSIONS):
        _, talker = await loop.create_connection(lambda: _Talker(key), "127.0.0.1", port)
        talkers.append(talker)
        if len(talkers) % BEGUN_AT_ONCE == 0:
            await asyncio.gather(*(talker.begun for talker in talkers[-BEGUN_AT_ONCE:]))
    await _say(talkers, SETTLE_SECONDS)
    await _delays(engine_port)
    before, began = used(), loop.time()
    await _say(talkers, TALK_SECONDS)
    share = (used() - before) / (loop.time() - began)
    found = await _delays(engine_port)
    for talker in talkers:
        talker.leave()
    return found, share


async def _say(talkers: Sequence[_Talker], seconds: float) -> None:
    """Each of them says something ten times a second; a few at a time."""
    loop, said = asyncio.get_running_loop(), 0
    began = loop.time()
    while (passed := loop.time() - began) < seconds:
        due = int(passed / AUDIO_SECONDS * len(talkers))
        for number in range(said, due):
            talkers[number % len(talkers)].say()
        said = due
        await asyncio.sleep(TICK_SECONDS)


async def _delays(engine_port: int) -> list[float]:
    def read() -> list[float]:
        with urlopen(f"http://127.0.0.1:{engine_port}/delays") as answer:
            found: list[float] = json.loads(answer.read())
            return found

    return await asyncio.to_thread(read)
