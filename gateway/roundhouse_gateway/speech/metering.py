"""What an answer that passes untouched says of what it has used: heard on its way, never held up."""

from typing import Final

from starlette.types import Message, Send

from roundhouse_gateway.relay import EVENT_STREAM
from roundhouse_gateway.usage import NOTHING, Usage, read_usage, with_seconds

MAX_KEPT_BYTES: Final = 1 << 20
"""Of a JSON answer: one that is longer is not read."""
TAIL_BYTES: Final = 64 << 10
"""Of a stream: its last event has the usage."""


class Hearing:
    """Remembers as much of an answer as may tell the usage."""

    def __init__(self, content_type: str, audio_seconds: str | None = None) -> None:
        """`audio_seconds` is what the answer's head says of them."""
        self._audio_seconds = audio_seconds
        self._streams = content_type == EVENT_STREAM
        self._kept: bytearray | None = (
            bytearray() if self._streams or content_type == "application/json" else None
        )

    @property
    def is_between_events(self) -> bool:
        """Of a stream: what comes next is not in the middle of an event."""
        return self._streams and (not self._kept or self._kept.endswith((b"\n\n", b"\r\n\r\n")))

    def usage(self) -> Usage:
        return with_seconds(self._in_body(), self._audio_seconds)

    def _in_body(self) -> Usage:
        if not self._kept:
            return NOTHING
        if not self._streams:
            return read_usage(bytes(self._kept))
        events = (line[5:] for line in reversed(self._kept.splitlines()) if line.startswith(b"data:"))
        return next(
            (found for event in events if (found := read_usage(bytes(event))) is not NOTHING), NOTHING
        )

    def see(self, piece: bytes) -> None:
        if self._kept is None:
            return
        self._kept += piece
        if self._streams:
            del self._kept[:-TAIL_BYTES]
        elif len(self._kept) > MAX_KEPT_BYTES:
            self._kept = None


class Meter(Hearing):
    """Sends on what it is given, and remembers it."""

    def __init__(self, send: Send, content_type: str, audio_seconds: str | None) -> None:
        super().__init__(content_type, audio_seconds)
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.see(message["body"])
        await self._send(message)
