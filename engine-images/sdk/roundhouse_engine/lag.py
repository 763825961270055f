"""How far a session's engine is behind its speaker, and what is to be done about that.

The measure is an engine that works exactly as fast as people speak: whoever sends a recording faster than it
plays, or all at once after a stall of the network, makes nobody lag. Such an engine takes as long to hear an
utterance as a whole, at its end, as it took to say; so much later it is judged again. Standard library alone.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

WARN_SECONDS: Final = 3.0
END_SECONDS: Final = 5.0
END_AFTER_SECONDS: Final = 2.0
"""For how long the lag must have been that large."""


class Verdict(Enum):
    FINE = "fine"
    WARN = "warn"
    """Once for each time that it fell behind."""
    END = "end"


class Lag:
    """Of one session. `clock` gives seconds, from wherever."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._received = 0.0
        self._processed = 0.0
        self._due = clock()
        self._warned = False
        self._too_large_since: float | None = None
        self._excused_until = self._due

    @property
    def received(self) -> float:
        return self._received

    @property
    def backlog(self) -> float:
        """Seconds of audio that were received and are not processed."""
        return max(self._received - self._processed, 0.0)

    @property
    def seconds(self) -> float:
        """What of the backlog would be done by now."""
        return max(self.backlog - max(self._due - self._clock(), 0.0), 0.0)

    @property
    def milliseconds(self) -> int:
        return round(self.seconds * 1000)

    def receive(self, seconds: float) -> None:
        self._received += seconds
        self._due = max(self._due, self._clock()) + seconds

    def process(self, until: float) -> None:
        """The engine is through with everything before that moment of the audio."""
        self._processed = max(self._processed, until)

    def excuse(self, seconds: float) -> None:
        """From now on an utterance of that length is heard as a whole, and nothing else meanwhile."""
        self._excused_until = max(self._excused_until, self._clock() + seconds)

    def judge(self) -> Verdict:
        lag, now = self.seconds, self._clock()
        if now < self._excused_until:
            return Verdict.FINE
        if lag < END_SECONDS:
            self._too_large_since = None
        elif self._too_large_since is None:
            self._too_large_since = now
        elif now - self._too_large_since >= END_AFTER_SECONDS:
            return Verdict.END
        if lag < WARN_SECONDS:
            self._warned = False
        elif not self._warned:
            self._warned = True
            return Verdict.WARN
        return Verdict.FINE
