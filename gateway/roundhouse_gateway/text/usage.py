"""How many tokens an engine says that it used: found at the end of what has passed, whatever came before."""

import re
from typing import Final

from roundhouse_gateway.usage import NOTHING, Usage, read_member

_FLAT: Final = re.compile(rb'"usage"\s*:\s*(\{[^}]*\})')
_NESTED: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_KEY: Final = b'"usage"'
_TAIL_BYTES: Final = 8192
"""Engines tell it at the end of an answer, or in its last frames."""


class UsageReader:
    """Keeps the end of what has passed."""

    __slots__ = ("_bytes", "_tail")

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._bytes = 0

    def see(self, data: bytes) -> None:
        """Pieces are put together once there are many: a stream's are small, and come often."""
        if len(data) >= _TAIL_BYTES:
            self._tail, self._bytes = [data], 0
            return
        self._tail.append(data)
        self._bytes += len(data)
        if self._bytes >= _TAIL_BYTES:
            self._tail, self._bytes = [b"".join(self._tail)[-_TAIL_BYTES:]], 0

    def usage(self) -> Usage:
        return usage_in(b"".join(self._tail))


def usage_in(tail: bytes) -> Usage:
    """The last that was told. A text cannot fake it: its quotes are escaped."""
    at = tail.rfind(_KEY)
    while at >= 0:
        found = _FLAT.match(tail, at)
        if found is not None and found[1].count(b"{") > 1:
            found = _NESTED.match(tail, at)
        if found is not None:
            return read_member(found[1])
        at = tail.rfind(_KEY, 0, at)
    return NOTHING
