"""What clients say while they wait for a place with an engine: kept, so that they are read from meanwhile.

A client that is not read from gets no answer to its pings, which stand behind its audio, and most leave after
some twenty seconds of that; a cold start takes minutes.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.types import Message, Receive

MOST_BYTES: Final = 8 << 20
"""Of one client: two minutes of OpenAI's audio in base64. What it says beyond is left to the network."""
MOST_BYTES_IN_ALL: Final = 64 << 20
_MESSAGE_BYTES: Final = 512
"""What a message takes besides its content."""


class Room:
    """For what all clients have said."""

    def __init__(self) -> None:
        self.kept_bytes = 0
        self._less = asyncio.Event()

    def count(self, size_bytes: int) -> None:
        self.kept_bytes += size_bytes
        if size_bytes < 0:
            self._less.set()

    async def less(self) -> None:
        """Returns when some of it is free again."""
        self._less.clear()
        await self._less.wait()

    @contextmanager
    def early(self, receive: Receive) -> Iterator["Early"]:
        """One client's, whose room is free again when the block ends."""
        made = Early(receive, self)
        try:
            yield made
        finally:
            made.forget()


class Early:
    """One client's messages: those that were kept, then those that come."""

    def __init__(self, receive: Receive, room: Room) -> None:
        self._receive = receive
        self._room = room
        self._kept: deque[tuple[Message, int]] = deque()
        self._size = 0
        self._is_gone = False

    async def until_gone(self) -> None:
        """Keeps what comes. Who finds no room is neither read from nor seen to leave until there is some."""
        while not self._is_gone:
            while self._size >= MOST_BYTES or self._room.kept_bytes >= MOST_BYTES_IN_ALL:
                await self._room.less()
            self._keep(await self._receive())

    async def receive(self) -> Message:
        if not self._kept:
            return await self._receive()
        message, size = self._kept.popleft()
        self._count(-size)
        return message

    def forget(self) -> None:
        self._kept.clear()
        self._count(-self._size)

    def _keep(self, message: Message) -> None:
        self._is_gone = message["type"] == "websocket.disconnect"
        # In memory: one emoji makes four bytes of each character of its text.
        size = _MESSAGE_BYTES + sys.getsizeof(message.get("text") or message.get("bytes"))
        self._kept.append((message, size))
        self._count(size)

    def _count(self, size: int) -> None:
        self._size += size
        self._room.count(size)
