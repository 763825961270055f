"""One WebSocket to an engine: our client of the protocol, on a transport of the event loop's.

Whole messages in one frame, which is what engines say, are read here; everything else (fragments, pings, the
close) is `websockets`' affair, and the handshake `greeting`'s. Which endpoint it leads to, and what a refusal
means, is left to `endpoint`.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from ssl import SSLContext
from typing import Final, Protocol, cast

import aiohttp
from typing_extensions import override
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import OPEN

from roundhouse_gateway.access import OPEN as OPEN_TO_ALL
from roundhouse_gateway.access import Access
from roundhouse_gateway.realtime.greeting import Greeting, RefusedError
from roundhouse_gateway.realtime.wire import BINARY, MASKED, TEXT, Frames, masked, payload_start, unmasked

MESSAGE_BYTES: Final = 4 << 20
"""The longest event of an engine."""
HEARTBEAT_SECONDS: Final = 10.0
"""An engine that has said nothing for two of them is sent a ping, and is gone without an answer in one."""
CLOSE_SECONDS: Final = 2.0
UNREAD_BYTES: Final = 128 << 10
"""So much of what an engine says waits for whoever reads it, before the engine waits."""
_PING: Final = 0x89
"""The first byte of one."""
_GONE: Final = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)


class Hearer(Protocol):
    """Who is told at once of what an engine says, and of how it takes what it is told."""

    def said(self, frame: bytes) -> None:
        """An event: a whole frame, which is text."""
        ...

    def over(self, message: aiohttp.WSMessage) -> None:
        """The session has ended, or what came is no event."""
        ...

    def engine_full(self) -> None:
        """It takes nothing more just now."""
        ...

    def engine_free(self) -> None: ...


class EngineLink(asyncio.Protocol):
    """Made by `connect`. Either it is read message by message, or somebody hears it.

    Where what it says holds the key that `access` has, nobody reads that.
    """

    def __init__(self, greeting: Greeting, access: Access = OPEN_TO_ALL) -> None:
        self._access = access
        self._loop = asyncio.get_running_loop()
        self._wire = greeting.wire
        self._greeting: Greeting | None = greeting
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._frames = Frames(MESSAGE_BYTES)
        self._fragments: list[bytes] = []
        self._events: deque[str] = deque()
        self._unread = 0
        self._news = asyncio.Event()
        self._end: aiohttp.WSMessage | None = None
        self._paused = False
        self._taken = asyncio.Event()
        self._taken.set()
        self._pong = b""
        """Is owed to an engine that takes nothing just now."""
        self._silent = 0
        self._heartbeat: asyncio.TimerHandle | None = None
        self._hearer: Hearer | None = None

    @property
    def open(self) -> bool:
        return self._wire.state is OPEN and not self._transport.is_closing()

    def send(self, frame: bytes) -> None:
        """A whole frame, masked. Behind the session's end it is dropped: the end is told elsewhere."""
        if self._end is None:
            self._transport.write(frame)

    async def send_bytes(self, data: bytes) -> None:
        await self._send(masked(BINARY, data))

    async def send_str(self, data: str) -> None:
        await self._send(masked(TEXT, data.encode()))

    async def _send(self, frame: bytes) -> None:
        await self._taken.wait()
        if not self.open:
            raise ConnectionResetError("the engine has ended the session")
        self._transport.write(frame)

    async def receive(self) -> aiohttp.WSMessage:
        """The next event; the session's end again and again."""
        while not self._events:
            if self._end is not None:
                return self._end
            self._news.clear()
            await self._news.wait()
        event = self._events.popleft()
        self._unread -= len(event)
        if self._unread <= UNREAD_BYTES // 2:
            self.resume()
        return aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, event, None)

    def hear(self, hearer: Hearer) -> None:
        """From here on everything is told at once, what has come before first."""
        self._hearer = hearer
        self.resume()  # before the hearer, whom this may be too much already
        for event in self._events:
            hearer.said(unmasked(TEXT, event.encode()))
        self._events.clear()
        self._unread = 0
        if self._end is not None:
            hearer.over(self._end)
        elif not self._taken.is_set():
            hearer.engine_full()

    def pause(self) -> None:
        """Has the engine wait."""
        if not (self._paused or self._transport.is_closing()):
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._silent = 0
            self._transport.resume_reading()

    async def close(self) -> None:
        """Takes leave, and waits a moment for the engine's own."""
        self._hearer = None
        self._over(_GONE)
        try:
            if self.open:
                self._wire.send_close(CloseCode.NORMAL_CLOSURE)
                self._flush()
                self.resume()
            else:
                self._transport.close()
            await asyncio.wait([self._lost], timeout=CLOSE_SECONDS)
        finally:
            self._transport.abort()

    async def greeted(self) -> None:
        """Until the engine has taken the session. Raises `RefusedError` and `ConnectionError`."""
        try:
            await self._greeted
        except BaseException:
            self._transport.abort()
            raise

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._flush()

    @override
    def data_received(self, data: bytes) -> None:
        self._silent = 0
        if self._greeting is not None:
            data = self._behind_greeting(self._greeting, data)
        wire = self._wire
        for frame in self._frames.feed(data):
            if frame[0] == TEXT and frame[1] < MASKED and wire.current_size is None and wire.state is OPEN:
                self._hear_text(frame)
            else:
                self._by_protocol(frame)
        if self._frames.too_long:
            self._by_protocol(self._frames.rest())  # which says so, and hears nothing more

    @override
    def eof_received(self) -> None:
        """The transport closes then."""

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._refuse(ConnectionResetError("the engine has left within the handshake"))
        self._taken.set()
        self._over(_GONE)
        self._lost.set_result(None)

    @override
    def pause_writing(self) -> None:
        self._taken.clear()
        if self._hearer is not None:
            self._hearer.engine_full()

    @override
    def resume_writing(self) -> None:
        self._taken.set()
        pong, self._pong = self._pong, b""
        if pong and self.open:
            self._transport.write(pong)
        if self._hearer is not None:
            self._hearer.engine_free()

    def _behind_greeting(self, greeting: Greeting, data: bytes) -> bytes:
        if self._greeted.done():
            return b""  # it was refused, or nobody waits for it any more
        try:
            behind = greeting.take(data)
        except (RefusedError, OSError) as error:
            self._refuse(error)
            return b""
        if behind is None:
            return b""
        self._greeting = None
        self._greeted.set_result(None)
        self._heartbeat = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)
        return behind

    def _refuse(self, error: Exception) -> None:
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()  # which is told to whoever waits still, and to nobody else

    def _hear_text(self, frame: bytes) -> None:
        try:
            text = frame[payload_start(frame) :].decode()
        except UnicodeDecodeError:
            self._fail()
            return
        if self._access.key and self._access.key in text:
            text = self._access.blotted_text(text)
            frame = unmasked(TEXT, text.encode())
        if self._hearer is not None:
            self._hearer.said(frame)
        else:
            self._keep(text)

    def _keep(self, text: str) -> None:
        """Until it is read."""
        if self._end is None:
            self._events.append(text)
            self._unread += len(text)
            self._news.set()
            if self._unread > UNREAD_BYTES:
                self.pause()

    def _by_protocol(self, data: bytes) -> None:
        self._wire.receive_data(data)
        if data[0] == _PING and self.open and not self._taken.is_set():
            # Of the pings of an engine that takes nothing the last is answered, once it does.
            self._pong = b"".join(self._wire.data_to_send())
        else:
            self._flush()
        for event in self._wire.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if self._wire.parser_exc is not None:
            self._over(_GONE)
            self._transport.close()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            told = Close.parse(frame.data)
            reason = self._access.blotted_text(told.reason)
            self._over(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSE, told.code, reason))
        elif frame.opcode is Opcode.BINARY:
            self._over(_GONE)  # which is no event
        elif frame.opcode in {Opcode.TEXT, Opcode.CONT}:
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), []
                self._hear_text(unmasked(TEXT, whole))

    def _fail(self) -> None:
        self._wire.fail(CloseCode.INVALID_DATA, "not UTF-8")
        self._flush()
        self._over(_GONE)
        self._transport.close()

    def _over(self, end: aiohttp.WSMessage) -> None:
        if self._end is None:
            self._end = end
            self._news.set()
            if self._hearer is not None:
                self._hearer.over(end)

    def _flush(self) -> None:
        if data := b"".join(self._wire.data_to_send()):
            self._transport.write(data)

    def _beat(self) -> None:
        self._heartbeat = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)
        if self._paused or not self.open:
            return
        self._silent += 1  # and one more is that in which it spoke last
        if self._silent == 3:
            self._wire.send_ping(b"")
            self._flush()
        elif self._silent > 3:
            self._transport.abort()


async def connect(
    url: str,
    headers: Mapping[str, str],
    trusted: SSLContext,
    connect_seconds: float,
    access: Access = OPEN_TO_ALL,
) -> EngineLink:
    """A session that the engine has taken. Raises `RefusedError`, `OSError` and `TimeoutError`."""
    greeting = Greeting(url, headers, MESSAGE_BYTES)
    link = EngineLink(greeting, access)
    host, port = greeting.address
    async with asyncio.timeout(connect_seconds):
        await asyncio.get_running_loop().create_connection(
            lambda: link, host, port, ssl=trusted if greeting.tls else None
        )
    await link.greeted()
    return link
