"""Bodies of JSON: read whole, within a size, a depth, and the room that all of them have together.

Depth is counted without parsing, because the parsers behind this gateway recurse once for each bracket, and
some of them die of it. All of it is UTF-8, also what is only passed on. What is no JSON for other reasons
passes: decoding it is left to the routes.
"""

import asyncio
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import Final

from roundhouse_gateway.body_room import BodyRoom
from roundhouse_gateway.guard_errors import JsonTooDeepError, NotUtf8Error
from roundhouse_gateway.upload import Upload

TIMES_AS_FAST: Final = 32
"""How much faster than other uploads JSON has to come: it is held in memory meanwhile."""
PIECE_BYTES: Final = 64 << 10
"""What is looked at between two turns of the event loop."""
_OPENING: Final = ord("[")
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class JsonBodies(BodyRoom):
    """Their room, with how deep each may be."""

    def __init__(self, *, limit_bytes: int, depth_limit: int, room_bytes: int) -> None:
        super().__init__(limit_bytes=limit_bytes, room_bytes=room_bytes)
        self.depth_limit = depth_limit

    @asynccontextmanager
    async def read(self, upload: Upload, announced: int = 0, key_id: str = "") -> AsyncIterator[bytes]:
        """The whole body; its room is free again when the block ends.

        `announced` is its `Content-Length`, 0 where there is none: what does not fit is refused unread, but
        room is taken only by what has come. Raises `BodyTooLargeError`, `NoRoomError`, `JsonTooDeepError` and
        what reading `upload` raises.
        """
        self.check(announced, announced, key_id)
        with self.hold(0, key_id) as grow:
            pieces: list[bytes] = []
            async for chunk in upload.chunks():
                grow(upload.received)
                pieces.append(chunk)
            body = b"".join(pieces)
            pieces.clear()
            for _ in self._looks(body):
                await asyncio.sleep(0)
            yield body

    def check_text(self, body: bytes) -> None:
        """Depth and encoding at once, for a body that is small."""
        if body.isascii() and self._is_shallow(body):
            return
        for _ in self._looks(body):
            pass

    def _looks(self, body: bytes) -> Iterator[None]:
        """One look for each piece."""
        if not body.isascii():
            yield from _look_for_utf8(body)
        if self._is_shallow(body):
            return
        nesting = _Nesting(self.depth_limit)
        for start in range(0, len(body), PIECE_BYTES):
            nesting.feed(body[start : start + PIECE_BYTES])
            yield

    def _is_shallow(self, body: bytes) -> bool:
        """Most bodies have fewer brackets than levels are allowed, and need no look at how these stand."""
        limit, size = self.depth_limit, len(body)
        if size > PIECE_BYTES:
            return body.count(b"[") + body.count(b"{") <= limit
        # Where there are few of them, leaving them out takes a tenth of the time that counting takes.
        without = len(body.replace(b"[", b"", limit + 1)) + len(body.replace(b"{", b"", limit + 1))
        return 2 * size - without <= limit


def _look_for_utf8(body: bytes) -> Iterator[None]:
    decoder = getincrementaldecoder("utf-8")()
    for start in range(0, len(body), PIECE_BYTES):
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(body[start : start + PIECE_BYTES], final=start + PIECE_BYTES >= len(body))
        except UnicodeDecodeError as error:
            raise NotUtf8Error(start - kept + error.start) from None
        yield


class _Nesting:
    """How deep brackets stand in one another, outside of strings, over pieces of one text."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> None:
        brackets = self._outside(piece).translate(_ONE_KIND, _NO_BRACKETS)
        opening = brackets.count(b"[")
        if self._depth + opening > self._limit:
            steps = (1 if bracket == _OPENING else -1 for bracket in brackets)
            if max(accumulate(steps, initial=self._depth)) > self._limit:
                raise JsonTooDeepError(self._limit)
        self._depth += 2 * opening - len(brackets)

    def _outside(self, piece: bytes) -> bytes:
        """What stands in no string. Escapes go first: a quote that is escaped ends nothing."""
        if self._escaped:
            piece = piece[1:]
        plain = piece.replace(rb"\\", b"").replace(rb"\"", b"")
        self._escaped = plain.endswith(b"\\")
        parts = plain.split(b'"')
        outside = parts[1::2] if self._in_string else parts[::2]
        self._in_string ^= len(parts) % 2 == 0
        return b"".join(outside)
