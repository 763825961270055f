"""Forms that are here as a whole, split by bytes: those that are written as clients write them.

What is written in any other way, and what is wrong, is left to `form.FormParser`. Here a form is either read
as that would read it, or not at all: names of headers alone may be in any case, and what is long is odd.
"""

import re
from dataclasses import dataclass
from typing import Final

from roundhouse_gateway.form import (
    CONTROL_CHARACTERS,
    FILE_FIELD,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    Field,
    FileStart,
)

_TYPE: Final = rb"[\w.+-]{1,100}/[\w.+-]{1,100}(?:; ?[\w-]{1,100}=[\w.+-]{1,100})?"
_TYPED: Final = rb"(?:(?i:Content-Type): (" + _TYPE + rb")\r\n)?"
_NAMED: Final = rb'(?i:Content-Disposition): form-data; name="'
_FIELD: Final = re.compile(rb"\r\n" + _TYPED + _NAMED + rb'([\w.-]{1,64}(?:\[\])?)"\r\n' + _TYPED + rb"\r\n")
_FILE: Final = re.compile(
    rb"\r\n" + _TYPED + _NAMED + FILE_FIELD.encode() + rb'"; filename="'
    rb'([^"\\%\x00-\x1f\x7f]{1,255})"\r\n' + _TYPED + rb"\r\n"
)
_CLOSING: Final = (b"--\r\n", b"--")


@dataclass(frozen=True, slots=True)
class SmallForm:
    """`fields` are as they were sent, heads and all: see `read_fields`."""

    fields: tuple[bytes, ...]
    file: FileStart
    content: memoryview


def split(body: bytes, boundary: bytes) -> SmallForm | None:
    """None where that is for the parser to do."""
    start = b"--" + boundary
    if not (boundary and body.startswith(start)):
        return None
    parts = body.split(b"\r\n" + start)
    if parts.pop() not in _CLOSING or not 1 <= len(parts) <= MAX_FIELDS:
        return None
    parts[0] = parts[0][len(start) :]
    fields, file, content = [], None, memoryview(b"")
    for part in parts:
        if (found := _FILE.match(part)) is None:
            fields.append(part)
        elif file is None and (file := _file(found)) is not None:
            content = memoryview(part)[found.end() :]
        else:
            return None
    return SmallForm(tuple(fields), file, content) if file is not None and content else None


def read_fields(parts: tuple[bytes, ...]) -> list[Field] | None:
    """None where that is for the parser to do."""
    fields = []
    for part in parts:
        found = _FIELD.match(part)
        if found is None or found[2] == FILE_FIELD.encode() or len(part) > MAX_FIELD_BYTES:
            return None
        if found[1] and found[3]:
            return None
        fields.append(Field(found[2].decode(), part[found.end() :]))
    return fields


def _file(found: re.Match[bytes]) -> FileStart | None:
    before, name, after = found.groups()
    if before and after:
        return None
    try:
        filename = name.decode()
    except UnicodeDecodeError:
        return None
    kind = before or after or b"application/octet-stream"
    return None if CONTROL_CHARACTERS.search(filename) else FileStart(filename, kind.decode())
