"""Waiting for something to become true, with a deadline and a message that says what was seen last.

Deadlines are there for what never comes: a test whose point is how soon something comes measures that itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 3
"""Times over that it is waited, because tests share their machine with other tests and with clusters."""
MOST_BEYOND = 120.0
"""Seconds beyond those asked for: what waits longer than its test may take never says what was seen last."""


def deadline_seconds(seconds: float) -> float:
    """How long it is waited for what a quiet machine may need so many seconds for."""
    return min(PATIENCE * seconds, seconds + MOST_BEYOND)


def wait_until(probe: Callable[[], T], *, seconds: float, what: str, every: float = 0.25) -> T:
    """Call `probe` until it returns something true, and return that.

    AssertionError once it has not for `deadline_seconds`.
    A probe that raises AssertionError is tried again, and so is one that finds a key or an item missing; what
    it said last is part of the failure.
    """
    most = deadline_seconds(seconds)
    deadline = time.monotonic() + most
    while True:
        seen: object
        try:
            value = probe()
        except (AssertionError, LookupError) as error:
            seen = error
        else:
            if value:
                return value
            seen = value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {most:g} s still not: {what}; last seen: {seen!r}")
        time.sleep(every)


def wait_for_an_early_minute() -> None:
    """For what is counted by the minute, and is not to be counted in two: there are twenty seconds for it."""
    wait_until(lambda: time.time() % 60 < 40, seconds=60, what="a new minute")


async def eventually(
    probe: Callable[[], Awaitable[object]], *, seconds: float, what: str, every: float = 0.1
) -> None:
    """As `wait_until`, for a probe that is awaited."""
    most = deadline_seconds(seconds)
    deadline = time.monotonic() + most
    while True:
        seen: object
        try:
            seen = await probe()
        except (AssertionError, LookupError) as error:
            seen = error
        else:
            if seen:
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"after {most:g} s still not: {what}; last seen: {seen!r}")
        await asyncio.sleep(every)
