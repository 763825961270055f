"""Server-sent events on their way: whole frames only, so that what follows a break is a frame of its own."""

from typing import Final

import msgspec

from roundhouse_gateway.errors import GatewayError

EVENT_STREAM: Final = b"text/event-stream"
MAX_FRAME_BYTES: Final = 4 << 20
"""A longer one is passed on in parts: no client waits for the memory of the gateway."""

_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Frames:
    """Holds back the beginning of a frame until its end has come."""

    __slots__ = ("_torn", "pending")

    def __init__(self) -> None:
        self.pending = b""
        self._torn = False

    def feed(self, data: bytes) -> bytes:
        """What may go to the client now."""
        if self.pending:
            data = self.pending + data
        if data.endswith(b"\n\n"):
            self.pending = b""
            self._torn = False
            return data
        end = 0
        for mark in _ENDS:
            at = data.rfind(mark)
            end = max(end, at + len(mark) if at >= 0 else 0)
        if len(data) - end > MAX_FRAME_BYTES:
            self.pending, self._torn = b"", True
            return data
        self.pending = data[end:]
        if end:
            self._torn = False
        return data[:end]

    def rest(self) -> bytes:
        """What the engine left without an end, where it ended in order."""
        return self.pending

    def broken(self, error: GatewayError) -> bytes:
        """The frame that tells a client why nothing more comes."""
        frame = error_frame(error)
        return b"\n\n" + frame if self._torn else frame


def error_frame(error: GatewayError) -> bytes:
    """As OpenAI's clients raise it."""
    said = {"message": error.message, "type": error.type, "param": None, "code": error.code}
    return b"data: %s\n\n" % msgspec.json.encode({"error": said})
