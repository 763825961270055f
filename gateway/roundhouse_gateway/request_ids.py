"""Ids of requests that came with none: 128 random bits in hexadecimal, as those of a UUID are.

Random bytes are had from the kernel for many at once: asking it for each takes as long as all else of an id.
"""

import os
from typing import Final

_BYTES: Final = 16
_AT_ONCE: Final = 256


class RequestIds:
    """Gives each id once. A process that was forked off begins anew, or both would give the same."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def next(self) -> str:
        start, end = self._at, self._at + 2 * _BYTES
        if end > len(self._digits):
            self._digits = os.urandom(_BYTES * _AT_ONCE).hex()
            start, end = 0, 2 * _BYTES
        self._at = end
        return self._digits[start:end]

    def _forget(self) -> None:
        self._digits, self._at = "", 0


new_request_id: Final = RequestIds().next
