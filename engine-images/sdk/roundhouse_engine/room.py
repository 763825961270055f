"""How much one call may be of, where memory was short for more.

What was free may be another's a moment later, and free again after that: so what is learnt is half of what
was too much, and forgotten by and by. Whoever calls from several threads keeps them apart.
"""

from typing import Final

_GOOD_CALLS: Final = 256
"""After so many, calls twice as large are tried."""


class Room:
    """`most`: of how many items, or tokens, a call is where nothing is known."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.now = most
        """What a call may be of, one at least."""
        self._good_calls = 0

    def was_short(self, size: int) -> None:
        """A call of so many was too much."""
        self.now = min(self.now, max(size // 2, 1))
        self._good_calls = 0

    def went_well(self) -> None:
        if self.now == self._most:
            return
        self._good_calls += 1
        if self._good_calls >= _GOOD_CALLS:
            self.now = min(2 * self.now, self._most)
            self._good_calls = 0
