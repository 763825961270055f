"""How often and how many at once: what the limits of API keys ask of whatever counts them.

`LocalLimits` counts within this process, which is all there is to know for one gateway; its workers count
together in `workers.key_table`, several gateways in `shared_limits`. A minute is a window of the clock: a key
has its whole allowance at the start of each. What is refused is not counted, and keys that were not used for
a window are forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final, Protocol

import msgspec
from typing_extensions import override

from roundhouse_gateway.errors import Headers

WINDOW_SECONDS: Final = 60


class Standing(msgspec.Struct, frozen=True):
    """Where a key stands after a request was counted, or refused."""

    limit: int
    remaining: int
    reset_seconds: int
    """Until the allowance is whole again."""

    def headers(self) -> Headers:
        """As OpenAI names them."""
        return [
            (b"x-ratelimit-limit-requests", b"%d" % self.limit),
            (b"x-ratelimit-remaining-requests", b"%d" % self.remaining),
            (b"x-ratelimit-reset-requests", b"%ds" % self.reset_seconds),
        ]

    def lines(self) -> bytes:
        """The same as lines of a head."""
        return (
            b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: %ds\r\n" % (self.limit, self.remaining, self.reset_seconds)
        )


class KeyLimits(Protocol):
    """Counts by key id. Where nothing can be counted, all but `end` may raise `LimitsUnavailableError`."""

    @property
    def away(self) -> bool:
        """Whether what is shared with other gateways cannot be reached."""
        ...

    async def standing(self, key_id: str, per_minute: int) -> Standing:
        """Where the key stands; counts nothing."""
        ...

    async def take(self, key_id: str, per_minute: int) -> tuple[bool, Standing]:
        """Counts a request if it is within the limit; whether it was, and where that leaves the key."""
        ...

    def take_now(self, key_id: str, per_minute: int) -> tuple[bool, Standing] | None:
        """As `take`, where that needs to wait for nothing; else None, and nothing is counted."""
        ...

    async def begin(self, key_id: str, at_once: int) -> bool:
        """Takes one of the key's places; False where all are taken. `end` gives it back."""
        ...

    def begin_now(self, key_id: str, at_once: int) -> bool | None:
        """As `begin`, where that needs to wait for nothing; else None, and no place is taken."""
        ...

    def admit_now(self, key_id: str, at_once: int | None, per_minute: int | None) -> Standing | bool:
        """A place and a request in one step, each where its limit is given; the place is given back by `end`.

        False, and nothing is counted or taken, where there is none or that cannot be known now; else where
        the key stands, or True where its requests are not counted.
        """
        if at_once is not None and not self.begin_now(key_id, at_once):
            return False
        admitted: Standing | bool = False
        try:
            counted = (True, True) if per_minute is None else self.take_now(key_id, per_minute)
            if counted is not None and counted[0]:  # what is refused was not counted
                admitted = counted[1]
        finally:
            if admitted is False and at_once is not None:
                self.end(key_id)
        return admitted

    def end(self, key_id: str) -> None: ...


@dataclass(slots=True)
class _Use:
    """What a key has used of its allowance."""

    window: int
    requests: int = 0
    running: int = 0


class LocalLimits(KeyLimits):
    """Of this process. `clock` gives seconds since the epoch."""

    away = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        self._window = 0

    def __len__(self) -> int:
        return len(self._uses)

    @override
    async def take(self, key_id: str, per_minute: int) -> tuple[bool, Standing]:
        return self.take_now(key_id, per_minute)

    @override
    def take_now(self, key_id: str, per_minute: int) -> tuple[bool, Standing]:
        now = self._clock()
        use = self._use(key_id, now)
        allowed = use.requests < per_minute
        use.requests += allowed
        return allowed, _standing(use, per_minute, now)

    @override
    async def standing(self, key_id: str, per_minute: int) -> Standing:
        now = self._clock()
        return _standing(self._use(key_id, now), per_minute, now)

    @override
    async def begin(self, key_id: str, at_once: int) -> bool:
        return self.begin_now(key_id, at_once)

    @override
    def begin_now(self, key_id: str, at_once: int) -> bool:
        use = self._use(key_id, self._clock())
        if use.running >= at_once:
            return False
        use.running += 1
        return True

    @override
    def admit_now(self, key_id: str, at_once: int | None, per_minute: int | None) -> Standing | bool:
        now = self._clock()
        use = self._use(key_id, now)
        if at_once is not None and use.running >= at_once:
            return False
        if per_minute is None:
            use.running += at_once is not None
            return True
        if use.requests >= per_minute:
            return False
        use.requests += 1
        use.running += at_once is not None
        return _standing(use, per_minute, now)

    @override
    def end(self, key_id: str) -> None:
        use = self._uses.get(key_id)
        if use is not None and use.running:
            use.running -= 1

    def _use(self, key_id: str, now: float) -> _Use:
        window = int(now // WINDOW_SECONDS)
        if window != self._window:
            self._window = window
            self._uses = {
                name: use for name, use in self._uses.items() if use.running or use.window >= window
            }
        use = self._uses.get(key_id)
        if use is None:
            use = self._uses[key_id] = _Use(window)
        if use.window < window:
            use.window, use.requests = window, 0
        return use


def _standing(use: _Use, per_minute: int, now: float) -> Standing:
    left, reset = per_minute - use.requests, ceil((use.window + 1) * WINDOW_SECONDS - now)
    return Standing(per_minute, max(0, left), max(1, reset))
