"""Embeddings as the client wants them: base64 of little-endian float32, or lists of numbers.

Not every engine knows `encoding_format`; what came in the other form is put into the one that was asked for.
That is seconds of work for the largest answers, so it is done vector by vector, and others have their turn
between. A text cannot fake a vector: its quotes are escaped.
"""

import base64
import re
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from roundhouse_gateway.text.slices import in_slices

MAX_BYTES: Final = 256 << 20
"""Of an answer that is to be changed, for which all of it has to be there."""
LOOK_BYTES: Final = 64 << 10
"""So far into an answer its first vector has begun, or it is passed as it is."""
WRONG: Final = (msgspec.DecodeError, struct.error, ValueError)
"""What is raised where an answer is none."""
_FIRST: Final = re.compile(rb'"embedding"\s*:\s*(["\[])')
_NUMBERS: Final = msgspec.json.Decoder(list[float])
_TEXT: Final = msgspec.json.Decoder(str)


def is_in_form(beginning: bytes, encoding: str) -> bool | None:
    """Whether an answer is as it was asked for; None while its first vector may still come."""
    for found in _FIRST.finditer(beginning):
        return (found[1] == b'"') == (encoding == "base64")
    return True if len(beginning) > LOOK_BYTES else None


async def converted(body: bytes, encoding: str) -> bytes:
    """The same answer with its vectors in the other form. Raises one of `WRONG`."""
    return b"".join(await in_slices(_pieces(body, encoding)))


def _pieces(body: bytes, encoding: str) -> Iterator[bytes]:
    change = _to_base64 if encoding == "base64" else _to_numbers
    end_mark = b"]" if encoding == "base64" else b'"'
    done = at = 0
    while (found := _FIRST.search(body, at)) is not None:
        at = found.end()
        if (found[1] == b'"') != (encoding == "base64"):
            start, at = found.start(1), body.index(end_mark, at) + 1
            yield body[done:start]
            yield change(body[start:at])
            done = at
    yield body[done:]


def _to_base64(encoded: bytes) -> bytes:
    numbers = _NUMBERS.decode(encoded)
    return b'"%b"' % base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers))


def _to_numbers(encoded: bytes) -> bytes:
    packed = base64.b64decode(_TEXT.decode(encoded), validate=True)
    return msgspec.json.encode(struct.unpack(f"<{len(packed) // 4}f", packed))
