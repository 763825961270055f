"""What a session's runner reads: audio and the client's orders in one stream, so that they keep their order.

A frame is a letter, the length of what follows, and that. Standard library alone.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final

_HEAD: Final = struct.Struct("<cI")


class Order(Enum):
    AUDIO = b"a"
    FLUSH = b"f"
    CLEAR = b"c"
    END = b"e"


@dataclass(frozen=True, slots=True)
class Frame:
    """`data`: the audio as the client sent it, or the id of its order."""

    order: Order
    data: bytes = b""


def packed(frame: Frame) -> bytes:
    return _HEAD.pack(frame.order.value, len(frame.data)) + frame.data


def unpacked(file: BinaryIO) -> Iterator[Frame]:
    """Frames until END or until the other side is gone, in which case END never comes; blocks."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        letter, length = _HEAD.unpack(head)
        data = file.read(length)
        if len(data) < length:
            return
        frame = Frame(Order(letter), data)
        yield frame
        if frame.order is Order.END:
            return
