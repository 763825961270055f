"""How far the loading is: bytes done, a smoothed rate, the time left, and what keeps bytes from coming.

Reads no clock itself.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from .listing import UNKNOWN

State = Literal["Starting", "Waiting", "Listing", "Downloading", "Unpacking", "Complete", "Failed"]
SMOOTHING_SECONDS: Final = 15.0
"""A change of speed shows to two thirds after so long."""
SAMPLE_SECONDS: Final = 0.5
ERROR_LENGTH: Final = 512
"""Of what is told, or an answer would be longer than those who ask read of it."""


@dataclass(frozen=True, slots=True)
class Report:
    """Progress at one moment; UNKNOWN (-1) where nobody knows."""

    state: State
    total_bytes: int
    done_bytes: int
    bytes_per_second: int
    remaining_seconds: int
    error: str = ""
    """Why nothing comes, while it is tried again; empty as soon as something does."""

    def as_json(self) -> dict[str, str | int]:
        return {
            "state": self.state,
            "totalBytes": self.total_bytes,
            "doneBytes": self.done_bytes,
            "bytesPerSecond": self.bytes_per_second,
            "remainingSeconds": self.remaining_seconds,
            **({"error": self.error} if self.error else {}),
        }


class Progress:
    """Counts for several threads.

    `clock` gives seconds that only grow, `redact` takes secrets out of errors.
    """

    def __init__(self, clock: Callable[[], float], redact: Callable[[str], str] = str) -> None:
        self._clock = clock
        self._redact = redact
        self._error = ""
        self._lock = threading.Lock()
        self._state: State = "Starting"
        self._total = UNKNOWN
        self._done = 0
        self._rate: float | None = None
        self._fetched = 0
        """Bytes that came since the last sample; what was in the cache already makes no speed."""
        self._sampled = clock()

    def enter(self, state: State) -> None:
        with self._lock:
            self._state, self._fetched, self._sampled, self._error = state, 0, self._clock(), ""

    def failed(self, error: str) -> None:
        """The source failed, not for the first time, and is asked again."""
        told = self._redact(error)
        with self._lock:
            self._error = told if len(told) <= ERROR_LENGTH else f"{told[: ERROR_LENGTH - 1]}…"

    def expect(self, total: int) -> None:
        """`total` bytes are to be there in the end, of which none is counted yet."""
        with self._lock:
            self._total, self._done = total, 0

    def learned(self, total: int) -> None:
        """The source told only now how much there is."""
        with self._lock:
            self._total = total

    def missing(self) -> int:
        """Bytes that are still to come, or UNKNOWN."""
        with self._lock:
            # How much larger they become when they are unpacked nobody says.
            known = self._total != UNKNOWN and self._state != "Unpacking"
            return max(0, self._total - self._done) if known else UNKNOWN

    def found(self, size: int) -> None:
        """`size` bytes were there already, or are to be fetched anew where it is negative."""
        with self._lock:
            self._done += size

    def fetched(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._fetched += size
            if size:
                self._error = ""
            self._sample()

    def report(self) -> Report:
        with self._lock:
            self._sample()
            rate = UNKNOWN if self._rate is None else round(self._rate)
            return Report(self._state, self._total, self._done, rate, self._remaining(rate), self._error)

    def _sample(self) -> None:
        now = self._clock()
        passed = now - self._sampled
        if passed < SAMPLE_SECONDS or self._state != "Downloading":
            return
        speed = self._fetched / passed
        share = 1.0 if self._rate is None else 1 - math.exp(-passed / SMOOTHING_SECONDS)
        self._rate = speed * share + (self._rate or 0.0) * (1 - share)
        self._fetched, self._sampled = 0, now

    def _remaining(self, rate: int) -> int:
        if self._total == UNKNOWN:
            return UNKNOWN
        left = self._total - self._done
        if left <= 0:
            return 0
        return math.ceil(left / rate) if rate > 0 else UNKNOWN
