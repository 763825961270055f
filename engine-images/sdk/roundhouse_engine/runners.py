"""A runner: a place where a handler lives and one request at a time is computed.

Two kinds, with one face: `thread_runner` and `process_runner`. `pool` keeps them alive and gives them work.
"""

from collections.abc import AsyncGenerator
from typing import BinaryIO, Protocol

from roundhouse_engine.events import Event, Work


class Runner(Protocol):
    def events(self) -> AsyncGenerator[Event, None]:
        """Start and load, then tell what happens; ends when the runner is dead."""

    def begin(self, ask: Work, file: BinaryIO) -> None:
        """Do the work with its file, which the caller closes. Only after `Loaded`, and when nothing runs."""

    def cancel(self) -> None:
        """Ask the computation to stop; `Stopped` (or another end) follows."""

    def kill(self) -> None:
        """End the runner without its consent, where that is possible."""

    def obituary(self) -> str:
        """How it died, for people; once `events` has ended."""
