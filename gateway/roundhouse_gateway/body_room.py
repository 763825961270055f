"""Memory for bodies that are held while their requests are under way, and what one key may have of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from roundhouse_gateway.guard_errors import BodyTooLargeError, NoRoomError

OF_ONE_KEY: Final = 2
"""One key may fill one part in so many of the room, or have one body: it cannot shut out the others."""


class BodyRoom:
    """The bodies that are being held. `limit_bytes` is for each, `room_bytes` for all together."""

    def __init__(self, *, limit_bytes: int, room_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.room_bytes = room_bytes
        self.held_bytes = 0
        self._of_keys: dict[str, int] = {}

    @contextmanager
    def hold(self, size: int, key_id: str = "") -> Iterator[Callable[[int], None]]:
        """Room for a body of so many bytes during the block; calling what it gives makes it larger."""
        held = 0

        def grow(size: int) -> None:
            nonlocal held
            if size > held:
                self.check(size, size - held, key_id)
                self._count(key_id, size - held)
                held = size

        try:
            grow(size)
            yield grow
        finally:
            self._count(key_id, -held)

    def take(self, size: int, key_id: str) -> None:
        """Room for a body that is here; `give` gives it back."""
        of_keys, held = self._of_keys, self.held_bytes + size
        of_key = of_keys.get(key_id, 0) + size
        if held > self.room_bytes or of_key > self.room_bytes // OF_ONE_KEY or size > self.limit_bytes:
            self.check(size, size, key_id)
        self.held_bytes = held
        if key_id:
            of_keys[key_id] = of_key

    def give(self, size: int, key_id: str) -> None:
        self.held_bytes -= size
        if key_id:
            of_keys = self._of_keys
            held = of_keys.get(key_id, 0) - size
            if held:
                of_keys[key_id] = held
            else:
                of_keys.pop(key_id, None)

    def _count(self, key_id: str, more: int) -> None:
        self.give(-more, key_id)

    def check(self, size: int, more: int, key_id: str) -> None:
        """Whether a body may have so many bytes, and there is room for so many more."""
        if size > self.limit_bytes:
            raise BodyTooLargeError(self.limit_bytes)
        of_key = self._of_keys.get(key_id, 0) + more
        beyond_share = of_key > max(size, self.room_bytes // OF_ONE_KEY)
        if beyond_share or self.held_bytes + more > self.room_bytes:
            raise NoRoomError
