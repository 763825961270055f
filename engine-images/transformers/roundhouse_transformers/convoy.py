"""Requests on their way to a step that they take together: who is there waits for those who are coming.

Sounds are encoded one after the other on a CPU, and decoded in one batch for little more than the time of
one. If each were decoded as soon as it is encoded, no two would ever be decoded together. `Together.coming`
waits for a quarter of a batch's time at most, since it knows of none that it would be quicker for: of eight
clips at once it made eight batches where these are three.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from roundhouse_engine import Cancellation

# How soon one whose client left waits no longer.
_LOOK_SECONDS: Final = 0.05


class Convoy:
    """It leaves once nobody is coming, or `most` are there. It knows nothing of models."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._coming = 0
        self._there = 0
        self._left = 0
        """How many convoys have."""
        self._changed = threading.Condition()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """What is done on the way; whoever fails on it is not waited for."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify_all()

    def complete(self, cancellation: Cancellation) -> None:
        """Return when all who are coming are there. Raises `Cancelled`."""
        with self._changed:
            mine = self._left
            self._there += 1
            try:
                while self._left == mine and self._coming and self._there < self._most:
                    cancellation.check()
                    self._changed.wait(_LOOK_SECONDS)
            except BaseException:
                if self._left == mine:
                    self._there -= 1
                raise
            if self._left == mine:
                self._left, self._there = mine + 1, 0
                self._changed.notify_all()
