"""Embeddings as the client wants them: base64 of little-endian float32, or lists of numbers.

Not every engine knows `encoding_format`; what came in the other form is put into the one that was asked for.
"""

import base64
import re
import struct
from typing import Any, Final

import msgspec

_FIRST: Final = re.compile(rb'"embedding"\s*:\s*(["\[])')
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_NUMBERS: Final = msgspec.json.Decoder(list[float])
_TEXT: Final = msgspec.json.Decoder(str)


def is_in_form(beginning: bytes, encoding: str) -> bool | None:
    """Whether an answer is as it was asked for; None while its first vector has not come."""
    for found in _FIRST.finditer(beginning):
        return (found[1] == b'"') == (encoding == "base64")
    return None


def converted(body: bytes, encoding: str) -> bytes:
    """The same answer with its vectors in the other form. `msgspec.DecodeError` or `struct.error`."""
    members: dict[str, Any] = dict(_MEMBERS.decode(body))
    change = _to_base64 if encoding == "base64" else _to_numbers
    members["data"] = [
        {name: change(value) if name == "embedding" else value for name, value in item.items()}
        for item in _ITEMS.decode(members["data"])
    ]
    return msgspec.json.encode(members)


def _to_base64(encoded: msgspec.Raw) -> str:
    numbers = _NUMBERS.decode(encoded)
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _to_numbers(encoded: msgspec.Raw) -> list[float]:
    packed = base64.b64decode(_TEXT.decode(encoded), validate=True)
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))
