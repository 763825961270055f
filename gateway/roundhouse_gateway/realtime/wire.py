"""WebSocket frames as bytes: where each one ends, and how one of ours is written to an engine.

What stands in frames that are not simply passed on (fragments, pings, closes, what is no frame at all) is
left to `websockets`, which is given them whole.
"""

import os
from collections.abc import Sequence
from typing import Final

from websockets.speedups import apply_mask

TEXT: Final = 0x81
BINARY: Final = 0x82
"""The first byte of a whole message in one frame."""
MASKED: Final = 0x80
_SHORT, _LONG = 126, 127
_LONGEST_HEAD: Final = 14


class Frames:
    """Cuts a stream of bytes. With a frame longer than `most` it ends: `too_long` says so."""

    __slots__ = ("_has", "_most", "_rest", "_wants", "too_long")

    def __init__(self, most: int) -> None:
        self._most = most + _LONGEST_HEAD
        self._rest: list[bytes] = []
        self._has = self._wants = 0
        self.too_long = False

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The frames that are whole by now."""
        if not self._rest and 0 < _size(data, 0) == len(data) <= self._most:
            return (data,)
        if self._rest:
            self._rest.append(data)
            self._has += len(data)
            if self._has < self._wants or self.too_long:
                return ()
            data = self.rest()
        found, at, end = [], 0, len(data)
        while 0 < (size := _size(data, at)) <= min(end - at, self._most):
            found.append(data[at : at + size])
            at += size
        if at < end:
            self._rest = [data[at:]]
            self._has = end - at
            self._wants = size or self._has + 1
            self.too_long = size > self._most
        return found

    def rest(self) -> bytes:
        """What there is of a frame that is not whole, and is no longer kept here."""
        rest, self._rest = self._rest, []
        return b"".join(rest)


def masked(first: int, payload: bytes) -> bytes:
    """A frame as clients send it."""
    key = os.urandom(4)
    return _head(first, MASKED, len(payload)) + key + apply_mask(payload, key)


def masked_anew(frame: bytes) -> bytes:
    """A masked frame under another mask, its payload seen by nobody.

    The mask is there so that whoever chooses what is said does not choose the bytes on the wire. A client may
    choose its own, but not the one that is used towards an engine.
    """
    start = payload_start(frame)
    key = os.urandom(4)
    both = int.from_bytes(key) ^ int.from_bytes(frame[start - 4 : start])
    return b"%b%b%b" % (frame[: start - 4], key, apply_mask(frame[start:], both.to_bytes(4)))


def unmasked(first: int, payload: bytes) -> bytes:
    """A frame as servers send it."""
    return _head(first, 0, len(payload)) + payload


def payload_start(frame: bytes) -> int:
    kind = frame[1] & ~MASKED
    start = 2 if kind < _SHORT else 4 if kind == _SHORT else 10
    return start + 4 if frame[1] & MASKED else start


def _head(first: int, mask: int, size: int) -> bytes:
    if size < _SHORT:
        return bytes((first, mask | size))
    if size < 1 << 16:
        return bytes((first, mask | _SHORT, size >> 8, size & 0xFF))
    return bytes((first, mask | _LONG)) + size.to_bytes(8)


def _size(data: bytes, at: int) -> int:
    """Of the frame that begins there, its head included; 0 where the head does not tell yet."""
    left = len(data) - at
    if left < 2:
        return 0
    size = data[at + 1]
    head = 2
    if size & MASKED:
        head, size = 6, size & ~MASKED
    if size < _SHORT:
        return head + size
    wide = 2 if size == _SHORT else 8
    if left < 2 + wide:
        return 0
    return head + wide + int.from_bytes(data[at + 2 : at + 2 + wide])
