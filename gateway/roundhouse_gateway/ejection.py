"""Endpoints that fail are passed over for a while: which of several a request may choose from.

By model and address, because an engine of several models may fail for one of them. How a failure shows, and
who is told of it, is left to `endpoints`.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

MOST_ERRORS: Final = 3
"""So many of its own errors in a row, for one alone may be the request's doing."""
FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 30.0
_MOST_DOUBLED: Final = 5


@dataclass(slots=True)
class _Trouble:
    """One endpoint since it answered last: it `rests` so often, last `since` and `until` then; its probe.

    `streams`: it does not rest any more, because a stream of it has begun, whose end may be far.
    """

    errors: int = 0
    rests: int = 0
    since: float = 0.0
    until: float = 0.0
    prober: object | None = None
    streams: bool = False

    @property
    def is_resting(self) -> bool:
        """Or is being probed."""
        return self.rests > 0 and not self.streams

    def is_due(self, now: float) -> bool:
        """Whether a request is to find out if it still fails."""
        return self.is_resting and self.prober is None and self.until <= now


class Ejections:
    """Held in memory. `troubled` is empty as long as nothing fails, which is all that a good request asks.

    When a request was `sent` is by the `clock`, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.troubled: dict[str, dict[str, _Trouble]] = {}

    def among(self, model: str, base_urls: Collection[str], prober: object | None = None) -> Collection[str]:
        """Those of them to choose from: none only where there were none.

        One alone whose rest is over, where the request may be its probe: others pass it over until `leave` or
        a verdict. Where all of them rest, those that have rested the least often.
        """
        known = self.troubled.get(model)
        if known is None or not base_urls:
            return base_urls
        if prober is not None:
            now = self.clock()
            for base_url in base_urls:
                if base_url in known and known[base_url].is_due(now):
                    known[base_url].prober = prober
                    return (base_url,)
        if sound := self.sound(model, base_urls):
            return sound
        fewest = min(known[base_url].rests for base_url in base_urls)
        return [base_url for base_url in base_urls if known[base_url].rests == fewest]

    def sound(self, model: str, base_urls: Collection[str]) -> Collection[str]:
        """Those of them that do not rest, nor are being probed."""
        known = self.troubled.get(model, {})
        return [each for each in base_urls if each not in known or not known[each].is_resting]

    def is_due(self, model: str) -> bool:
        """Whether a request of the model is to be a probe."""
        now = self.clock()
        return any(each.is_due(now) for each in self.troubled.get(model, {}).values())

    def all_rest(self, model: str, base_urls: Collection[str]) -> bool:
        """Whether nothing but want of a better one leads to any of them just now."""
        known, now = self.troubled.get(model, {}), self.clock()
        return bool(base_urls) and all(
            each in known and known[each].is_resting and not known[each].is_due(now) for each in base_urls
        )

    def failed(self, model: str, base_url: str, sent: float, *, at_once: bool) -> bool:
        """A request came to nothing there; `at_once`: no other could fare better. True: it rests from now on.

        What was sent before its rest was over, or for want of a better one during that, does not prolong it.
        """
        trouble = self.troubled.setdefault(model, {}).setdefault(base_url, _Trouble())
        if sent < trouble.until:
            return False
        trouble.errors += 1
        if not (at_once or trouble.rests or trouble.errors >= MOST_ERRORS):
            return False
        rested, trouble.streams, trouble.prober = trouble.is_resting, False, None
        trouble.since = now = self.clock()
        trouble.until = now + min(FIRST_SECONDS * 2 ** min(trouble.rests, _MOST_DOUBLED), LONGEST_SECONDS)
        trouble.rests += 1
        return not rested

    def answered(self, model: str, base_url: str, sent: float) -> bool:
        """All is forgotten of it, unless the request was sent before its rest began. True: it had rested."""
        trouble = self.troubled.get(model, {}).get(base_url)
        if trouble is None or sent < trouble.since:
            return False
        self._forget(model, base_url)
        return trouble.is_resting

    def began(self, model: str, base_url: str, sent: float) -> bool:
        """A stream of it has: it rests no more, but for longer if that breaks off. True: it had rested."""
        trouble = self.troubled.get(model, {}).get(base_url)
        if trouble is None or sent < trouble.since or not trouble.is_resting:
            return False
        trouble.streams, trouble.prober = True, None
        return True

    def _forget(self, model: str, base_url: str) -> None:
        known = self.troubled[model]
        del known[base_url]
        if not known:
            del self.troubled[model]

    def leave(self, model: str, prober: object) -> None:
        """That request is over. If it was a probe, and nothing was found out, the next one is."""
        for each in self.troubled.get(model, {}).values():
            if each.prober is prober:
                each.prober = None

    def resting(self, model: str) -> int:
        """How many are passed over, those that are probed among them."""
        return sum(each.is_resting for each in self.troubled.get(model, {}).values())

    def keep(self, model: str, base_urls: Collection[str]) -> None:
        """Forgets all others of the model: they are gone."""
        for base_url in [each for each in self.troubled.get(model, {}) if each not in base_urls]:
            self._forget(model, base_url)
