"""When it is worth a client's while to ask again: from what is known of how long starts and turns take."""

from math import ceil
from typing import Final

from roundhouse_gateway.errors import RETRY_AFTER_SECONDS
from roundhouse_gateway.load import Place

LONGEST_SECONDS: Final = 120
"""OpenAI's clients give up on a longer one."""
_NEWEST: Final = 0.3
"""What the newest turn counts for against all before it."""


class Pace:
    """Of one variant. All times are the clock's of the event loop, in seconds."""

    def __init__(self) -> None:
        self._start_seconds: float | None = None
        self._turn_seconds: float | None = None
        self._asleep_since: float | None = None
        self._last_turn: float | None = None

    def asleep(self, now: float) -> None:
        """Somebody waits for it to start."""
        if self._asleep_since is None:
            self._asleep_since = now

    def awake(self, now: float) -> None:
        if self._asleep_since is not None:
            self._start_seconds = now - self._asleep_since
        self._asleep_since = None

    def nobody_waits(self) -> None:
        """What was begun is not seen to its end."""
        self._asleep_since = self._last_turn = None

    def turn(self, now: float, *, others_wait: bool) -> None:
        """One was called. How long turns take shows only where somebody waits for the next."""
        if self._last_turn is not None:
            took = now - self._last_turn
            known = self._turn_seconds
            self._turn_seconds = took if known is None else known + _NEWEST * (took - known)
        self._last_turn = now if others_wait else None

    def seconds_until_served(self, now: float, waiting: int) -> float | None:
        """For one who comes now, behind so many; None where nothing is known."""
        if self._asleep_since is not None:
            if self._start_seconds is None:
                return None
            return max(1.0, self._start_seconds - (now - self._asleep_since))
        return None if self._turn_seconds is None else self._turn_seconds * (waiting + 1)


class Paces:
    """Of all variants that were waited for."""

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._paces: dict[Place, Pace] = {}

    def of(self, place: Place) -> Pace:
        if place not in self._paces and len(self._paces) >= self._most:
            del self._paces[next(iter(self._paces))]
        return self._paces.setdefault(place, Pace())


def retry_after(*estimates: float | None) -> int:
    """The longest of what is known, in whole seconds within reason; a guess where nothing is."""
    known = [each for each in estimates if each is not None]
    return min(LONGEST_SECONDS, max(1, ceil(max(known)))) if known else RETRY_AFTER_SECONDS
