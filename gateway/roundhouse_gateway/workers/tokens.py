"""What the supervisor keeps for all workers, so that a token is known to whichever of them is shown it."""

from collections.abc import Callable
from typing import Final

MOST: Final = 10_000


class Kept:
    """By name, until it expires. The oldest go where there are too many. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[bytes, float]] = {}

    def put(self, name: str, content: bytes, seconds: int) -> None:
        now = self._clock()
        if len(self._kept) >= MOST:
            self._kept = {each: kept for each, kept in self._kept.items() if kept[1] > now}
        while len(self._kept) >= MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = content, now + seconds

    def get(self, name: str, *, take: bool) -> bytes | None:
        content, until = (self._kept.pop if take else self._kept.get)(name, (None, 0.0))
        return content if until > self._clock() else None
