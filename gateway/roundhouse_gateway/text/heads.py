"""Heads of messages that need no second reading, because they came before on the same connection.

Whoever keeps a connection sends the same head with each message on it, byte for byte but for the length of
the body. One that a parser has read and found in order means the same when it comes again. Where anything
else differs, or the message does not come whole and alone, it is read as if nothing were known.
"""

import re
from typing import Final, Generic, TypeVar

MAX_KNOWN_BYTES: Final = 4096
"""A longer head is read each time: what is kept of connections has to stay small."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([1-9][0-9]{0,7})(?=\r\n)", re.IGNORECASE)
_END: Final = b"\r\n\r\n"
_ZERO: Final = ord("0")
_DIGITS: Final = 8
_ANOTHER: Final = (0, -1)

T = TypeVar("T")


class Known(Generic[T]):
    """A head, and what it means to whoever reads messages that begin with it."""

    __slots__ = ("_after", "_before", "_digits_at", "_last", "_size", "_start", "meaning")

    def __init__(self, before: bytes, after: bytes, meaning: T) -> None:
        """`before` and `after` stand around the digits of the length; `after` ends with the head."""
        self._before = before
        self._after = after
        self._digits_at = len(before)
        self._last = b""
        """The whole head as it came last: it often is the same to the digit."""
        self._start = self._size = 0
        """Where its body begins then, and how long the whole message is."""
        self.meaning = meaning

    def body_of(self, data: bytes) -> bytes | None:
        """The body of the one whole message that this is, if it has this head; else None."""
        if not (self._start and data.startswith(self._last)):
            start, length = self._framing(data)
            if length < 0:
                return None
            self._last, self._start, self._size = data[:start], start, start + length
        return data[self._start :] if len(data) == self._size else None

    def is_begun_by(self, data: bytes) -> bool:
        """Whether this is the whole head, and not all of the body."""
        start, length = self._framing(data)
        return length > len(data) - start

    def _framing(self, data: bytes) -> tuple[int, int]:
        """Where the body begins, and its length; a length below 0 where the head is another one."""
        digits_at = self._digits_at
        if not data.startswith(self._before):
            return _ANOTHER
        digits_end = data.find(b"\r", digits_at, digits_at + _DIGITS + 1)
        if digits_end < 0 or not data.startswith(self._after, digits_end):
            return _ANOTHER
        digits = data[digits_at:digits_end]
        if not digits.isdigit() or digits[0] == _ZERO:
            return _ANOTHER
        return digits_end + len(self._after), int(digits)


def known(data: bytes, length: int, meaning: T) -> Known[T] | None:
    """The head that `data` begins with, of a message in order with a body of so many bytes.

    None where it cannot be kept.
    """
    end = data.find(_END, 0, MAX_KNOWN_BYTES)
    head = data[: end + len(_END)]
    found = list(_LENGTH.finditer(head))
    in_order = len(found) == 1 and int(found[0][1]) == length and head.count(b"\n") == head.count(b"\r\n")
    if end < 0 or not in_order:
        return None
    digits_at, digits_end = found[0].span(1)
    return Known(head[:digits_at], head[digits_end:], meaning)
