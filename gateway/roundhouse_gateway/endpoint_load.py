"""How busy endpoints are: by what this gateway has sent them, and by what they tell of others."""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

LOAD_HEADER: Final = "X-Roundhouse-Load"
FRESH_SECONDS: Final = 5.0
"""What an engine told of requests that are not this gateway's is taken into account for so long."""
_IN_USE: Final = re.compile(r"([0-9]{1,6})/[0-9]{1,6}")


class Load:
    """Requests in flight by address: this gateway's own as they are, others' as each engine told last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._in_flight: dict[str, int] = {}
        self._told: dict[str, tuple[int, float]] = {}
        self._turn = 0

    def least(self, base_urls: Collection[str]) -> str:
        """The address with the least in flight; among equals they take turns."""
        if len(base_urls) == 1:
            return next(iter(base_urls))
        self._turn += 1
        loads = {base_url: self.of(base_url) for base_url in base_urls}
        lowest = min(loads.values())
        idlest = [base_url for base_url in base_urls if loads[base_url] == lowest]
        return idlest[self._turn % len(idlest)]

    def of(self, base_url: str) -> int:
        others, until = self._told.get(base_url, (0, 0.0))
        own = self._in_flight.get(base_url, 0)
        return own + others if others and self._clock() < until else own

    def told(self, base_url: str, header: str | None) -> None:
        """What an engine said with an answer, `in use/capacity`, while that request was in hand here."""
        found = _IN_USE.fullmatch(header) if header else None
        others = max(0, int(found[1]) - self._in_flight.get(base_url, 0)) if found else 0
        if others:
            now = self._clock()
            self._told = {url: each for url, each in self._told.items() if each[1] > now}
            self._told[base_url] = others, now + FRESH_SECONDS
        else:
            self._told.pop(base_url, None)

    @contextmanager
    def hold(self, base_url: str) -> Iterator[None]:
        self.begin(base_url)
        try:
            yield
        finally:
            self.end(base_url)

    def begin(self, base_url: str) -> None:
        """A request goes there. `end` is told when it is over."""
        self._in_flight[base_url] = self._in_flight.get(base_url, 0) + 1

    def end(self, base_url: str) -> None:
        left = self._in_flight[base_url] - 1
        if left:
            self._in_flight[base_url] = left
        else:
            del self._in_flight[base_url]
