"""The body of one request as it comes in: in pieces, within a size, while the client keeps up."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

from starlette.types import Message, Receive

from roundhouse_gateway.errors import ClientGoneError, UploadTimeoutError, UploadTooLargeError
from roundhouse_gateway.guard_errors import UploadTooSlowError

# What a client still sends after an error was answered is read and dropped for a while: many clients read
# an answer only when they have sent everything, and closing at once would take it from them.
LINGER_SECONDS = 3
LINGER_BYTES = 64 << 20
# Of an upload that is held, so that a client is seen to leave which has little to send.
AHEAD_BYTES = 64 << 10


class Upload:
    """One reader of an ASGI `receive`. `received` counts bytes; `ended` is set when all of them are here.

    Whoever has waited for the client for `idle_seconds` in all must have got `least_rate` bytes for each of
    them: to send a byte now and then is to stand still. Time in which nobody reads is not the client's.
    """

    def __init__(
        self, receive: Receive, *, limit_bytes: int, idle_seconds: float, least_rate: int = 0
    ) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._idle_seconds = idle_seconds
        self._least_rate = least_rate
        self._waited = 0.0
        self._got = 0
        self.received = 0
        self.ended = asyncio.Event()
        self.gone = False
        self._ahead = b""

    def check_announced(self, content_length: int) -> None:
        """Refuses a body that is announced to be too long before any of it is read."""
        if content_length > self._limit_bytes:
            raise self._too_large()

    async def chunks(self) -> AsyncIterator[bytes]:
        while self._ahead or not self.ended.is_set():
            chunk, self._ahead = self._ahead, b""
            chunk = chunk or await self._next()
            if chunk:
                yield chunk

    async def _next(self) -> bytes:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._idle_seconds):
                message = await self._receive()
        except TimeoutError as error:
            raise UploadTimeoutError(
                f"The upload stood still for {self._idle_seconds:g} seconds; send it faster, or again."
            ) from error
        self._waited += time.monotonic() - began
        chunk = self._take(message)
        self._got += len(chunk)
        if self._waited >= self._idle_seconds and not self.ended.is_set():
            self._check_pace()
        return chunk

    def _check_pace(self) -> None:
        if self._got < self._least_rate * self._waited:
            raise UploadTooSlowError(self._least_rate)
        self._waited, self._got = 0.0, 0

    def _take(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        self.received += len(chunk)
        if self.received > self._limit_bytes:
            raise self._too_large()
        if not message.get("more_body", False):
            self.ended.set()
        return chunk

    def _too_large(self) -> UploadTooLargeError:
        return UploadTooLargeError(
            f"The request body is larger than this gateway's limit of {self._limit_bytes} bytes.",
            param="file",
        )

    async def discard(self) -> None:
        """Reads and drops what is still being sent, within bounds."""
        dropped = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not (self.ended.is_set() or self.gone) and dropped < LINGER_BYTES:
                    message = await self._receive()
                    dropped += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return

    async def until_gone(self) -> None:
        """Returns when the client has left, of which only reading tells: so a little is read ahead.

        A client whose upload is longer than that is seen to leave when it is read on.
        """
        while len(self._ahead) < AHEAD_BYTES or self.ended.is_set():
            try:
                self._ahead += self._take(await self._receive())
            except ClientGoneError:
                return
        await asyncio.Event().wait()

    async def _wait_until_gone(self) -> None:
        await self.ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True

    @asynccontextmanager
    async def leaving_cancels(self) -> AsyncIterator[None]:
        """Cancels the block when the client leaves after its body has come, and raises `ClientGoneError`.

        Before that, reading the body tells.
        """
        task = cast("asyncio.Task[object]", asyncio.current_task())
        watcher = asyncio.create_task(self._wait_until_gone())
        inside = True

        def on_gone(watcher: "asyncio.Task[None]") -> None:
            if inside and not watcher.cancelled():
                task.cancel()

        watcher.add_done_callback(on_gone)
        try:
            yield
        except asyncio.CancelledError:
            if self.gone and task.uncancel() == 0:
                raise ClientGoneError from None
            raise
        finally:
            inside = False
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
