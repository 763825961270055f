"""An engine of streams and sessions that costs little, for `tests.bench.backends`.

A POST is answered with a stream of events, one every 20 ms, each with the time at which it was sent. A
handshake begins a session: its client's binary messages begin with the time at which they were sent, and each
is answered with an event that has the engine's time. `GET /delays` tells what messages took, and by how much
events were sent too late, both in ms, and forgets it. Times are the machine's monotonic clock.
"""

import asyncio
import base64
import hashlib
import json
import struct
import time
from typing import Final, cast

from typing_extensions import override

FRAMES: Final = 100
FRAME_SECONDS: Final = 0.02
STAMP: Final = struct.Struct("=d")
_ACCEPT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BEGIN: Final = json.dumps(
    {"type": "session.begin", "id": "bench", "model": "m", "lagMs": 0, "expiresAt": 0}
).encode()
_BINARY, _PING, _PONG = 0x82, 0x89, 0x8A
_MASKED, _LONG = 0x80, 126

_HEARD: Final = b'{"type":"transcript.partial","lagMs":0,"text":"","at":"%017.9f"}'

told_ms: dict[str, list[float]] = {"took": [], "late": []}


class LiveEngine(asyncio.Protocol):
    """One connection: requests come whole and one at a time, messages masked and of up to 64 KiB."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._in_session = False
        self._data = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    @override
    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._in_session:
            self._read_messages()
            return
        head, end, _ = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        if head.startswith(b"POST"):
            self._data = b""
            self._begin_stream()
        elif b"\r\nsec-websocket-key:" in head.lower():
            self._data = b""
            self._begin_session(head)
        else:
            self._data = b""
            self._tell()

    def _begin_stream(self) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._frame(FRAMES, time.monotonic())

    def _frame(self, left: int, due: float) -> None:
        if self._transport.is_closing():
            return
        if not left:
            self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        now, following = time.monotonic(), due + FRAME_SECONDS
        event = b'data: {"choices":[{"delta":{"content":"%.9f"}}]}\n\n' % now
        self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        told_ms["late"].append(1000 * (now - due))
        self._loop.call_later(max(following - now, 0), self._frame, left - 1, following)

    def _begin_session(self, head: bytes) -> None:
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = next(value for name, value in lines.items() if name.lower() == b"sec-websocket-key")
        accepted = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest())  # noqa: S324 - RFC 6455 has it so
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: %s\r\n\r\n\x81%c%s" % (accepted, len(_BEGIN), _BEGIN)
        )
        self._in_session = True

    def _read_messages(self) -> None:
        data, at = self._data, 0
        while len(data) - at >= 2:
            kind, size, start = data[at], data[at + 1] - _MASKED, at + 6
            if size == _LONG:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 8
            if len(data) < start + size:
                break
            self._read(kind, data[start - 4 : start], data[start : start + min(size, _LONG)])
            at = start + size
        self._data = data[at:]

    def _read(self, kind: int, mask: bytes, beginning: bytes) -> None:
        plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(beginning[: STAMP.size]))
        if kind == _BINARY:
            now = time.monotonic()
            told_ms["took"].append(1000 * (now - STAMP.unpack(plain)[0]))
            event = _HEARD % now
            self._transport.write(b"\x81%c%s" % (len(event), event))
        elif kind == _PING:
            self._transport.write(bytes((_PONG, len(plain))) + plain)

    def _tell(self) -> None:
        said = json.dumps(told_ms).encode()
        for each in told_ms.values():
            each.clear()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))


async def serve() -> None:
    """Prints its port, and runs until it is killed."""
    server = await asyncio.get_running_loop().create_server(LiveEngine, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
