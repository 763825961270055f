"""Clients of streams and of sessions, in a process of their own, that say when they were late themselves.

`python -m tests.bench.live_clients streams PORT ENGINE_PORT PID KEY`, or `sessions`: asks PORT, and prints as
JSON what was `Found`, and what the process PID used meanwhile. Times are the machine's monotonic clock.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Final, cast
from urllib.request import urlopen

import uvloop
from typing_extensions import override

from tests.bench.live_engine import FRAME_SECONDS, FRAMES, STAMP
from tests.bench.machine import cpu_seconds, waited_seconds
from tests.bench.peers import MODEL

STREAMS: Final = 200
SESSIONS: Final = 1000
BEGUN_AT_ONCE: Final = 20
AUDIO_SECONDS: Final = 0.1
TALK_SECONDS: Final = 4.0
SETTLE_SECONDS: Final = 1.0
TICK_SECONDS: Final = 0.001
PATIENCE_SECONDS: Final = 60.0
_AUDIO: Final = bytes(3200 - STAMP.size)
_SENT: Final = re.compile(rb'"(?:content|at)":"([\d.]+)"')


@dataclass(frozen=True, slots=True)
class Found:
    """In ms, of the frames that came: from the engine for streams, to it for sessions.

    `first` is from a request to its first frame, `back_99` of what sessions were told. `own_99` says by how
    much the load itself came later than it was due. `used` and `waited` are seconds of PID's, out of
    `seconds`: those for which it had its core, and those for which others had it.
    """

    frames: int
    median: float
    late_99: float
    first: float
    back_99: float
    own_99: float
    seconds: float
    used: float
    waited: float


@dataclass(slots=True)
class _Heard:
    """What clients noted, in ms."""

    frames: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


class _Used:
    """By a process since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), cpu_seconds(self._pid), waited_seconds(self._pid)

    def since(self) -> tuple[float, float, float]:
        began, used, waited = self._before
        now, now_used, now_waited = self._now()
        return now - began, now_used - used, now_waited - waited


def found(kind: str, port: int, engine_port: int, pid: int, key: str) -> Found:
    """By a process of its own."""
    arguments = [kind, str(port), str(engine_port), str(pid), key]
    command = [sys.executable, "-m", "tests.bench.live_clients", *arguments]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Found(**json.loads(made.stdout))


class _Listener(asyncio.Protocol):
    """Asks for one stream, and notes when its frames come."""

    def __init__(self, request: bytes, heard: _Heard) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._request = request
        self._heard = heard
        self._asked = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._asked = time.monotonic()
        cast("asyncio.Transport", transport).write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        for each in _SENT.findall(data):
            if self._asked:
                self._heard.firsts.append(1000 * (now - self._asked))
                self._asked = 0.0
            self._heard.frames.append(1000 * (now - float(each)))
        if b"[DONE]" in data and not self.ended.done():
            self.ended.set_result(None)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(exc or ConnectionError("a stream was cut off"))


async def listen(port: int, engine_port: int, pid: int, key: str) -> Found:
    """All streams to their end. Their frames are spread evenly over the time between two of one stream."""
    loop, heard = asyncio.get_running_loop(), _Heard()
    body = f'{{"model": "{MODEL}", "stream": true, "messages": []}}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    await _told(engine_port)
    used, began, made = _Used(pid), time.monotonic(), []
    for number in range(1, STREAMS + 1):
        made.append(await loop.create_connection(lambda: _Listener(request, heard), "127.0.0.1", port))
        due = began + number * (FRAME_SECONDS / 10 + FRAME_SECONDS / STREAMS)
        await asyncio.sleep(max(due - time.monotonic(), 0))
    async with asyncio.timeout(FRAMES * FRAME_SECONDS + PATIENCE_SECONDS):
        await asyncio.gather(*(listener.ended for _, listener in made))
    spent = used.since()
    for transport, _ in made:
        transport.abort()
    late = (await _told(engine_port))["late"]
    return _found(heard.frames, heard.firsts, [0.0], late, spent)


class _Talker(asyncio.Protocol):
    """One session."""

    def __init__(self, key: str, heard: _Heard) -> None:
        self.begun = asyncio.get_running_loop().create_future()
        self._key = key
        self._heard = heard
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
        now = time.monotonic()
        for each in _SENT.findall(data):
            self._heard.frames.append(1000 * (now - float(each)))
        if not self.begun.done() and b"session.begin" in data:
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


async def talk(port: int, engine_port: int, pid: int, key: str) -> Found:
    """Sessions that all talk at once, and hear of each frame."""
    loop, heard, talkers = asyncio.get_running_loop(), _Heard(), list[_Talker]()
    for _ in range(SESSIONS):
        _, talker = await loop.create_connection(lambda: _Talker(key, heard), "127.0.0.1", port)
        talkers.append(talker)
        if len(talkers) % BEGUN_AT_ONCE == 0:
            await asyncio.gather(*(talker.begun for talker in talkers[-BEGUN_AT_ONCE:]))
    await _say(talkers, SETTLE_SECONDS, [])
    await _told(engine_port)
    heard.frames.clear()
    used = _Used(pid)
    await _say(talkers, TALK_SECONDS, heard.late)
    spent = used.since()
    took = (await _told(engine_port))["took"]
    for talker in talkers:
        talker.leave()
    return _found(took, [0.0], heard.frames, heard.late, spent)


async def _say(talkers: Sequence[_Talker], seconds: float, late: list[float]) -> None:
    """Each of them says something ten times a second; a few at a time."""
    said, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed / AUDIO_SECONDS * len(talkers))
        for number in range(said, due):
            late.append(1000 * (passed - number / len(talkers) * AUDIO_SECONDS))
            talkers[number % len(talkers)].say()
        said = due
        await asyncio.sleep(TICK_SECONDS)


async def _told(engine_port: int) -> dict[str, list[float]]:
    def read() -> dict[str, list[float]]:
        with urlopen(f"http://127.0.0.1:{engine_port}/delays") as answer:
            said: dict[str, list[float]] = json.loads(answer.read())
            return said

    return await asyncio.to_thread(read)


def _found(
    frames: Sequence[float],
    firsts: Sequence[float],
    back: Sequence[float],
    late: Sequence[float],
    spent: tuple[float, float, float],
) -> Found:
    return Found(len(frames), median(frames), _99(frames), median(firsts), _99(back), _99(late), *spent)


def _99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[-1] if len(values) > 1 else values[0]


if __name__ == "__main__":
    kind, port, engine_port, pid, key = sys.argv[1:]
    way = {"streams": listen, "sessions": talk}[kind]
    print(json.dumps(asdict(uvloop.run(way(int(port), int(engine_port), int(pid), key)))))
