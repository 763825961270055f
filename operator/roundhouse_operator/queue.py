"""The work queue: which keys are due, and when.

A burst of changes to one resource becomes one pass, a key is never worked on twice at once, and a key
whose pass failed comes back after a delay that doubles. Nothing is lost: a change that arrives while its
key is being worked on brings the key back as soon as that pass ends, and within a second where it failed.
What a pass does is the handler's business.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

logger = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

FIRST_DELAY_SECONDS: Final = 0.25
LAST_DELAY_SECONDS: Final = 60.0
SOON_SECONDS: Final = 1.0


class RetryError(Exception):
    """Raised by a handler that wants another pass, after the usual delay and never before `after_seconds`."""

    def __init__(self, reason: str, after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class WorkQueue(Generic[Key]):
    """Call `add` from anywhere in the loop; `run` works until it is cancelled."""

    def __init__(self, *, observe: Callable[[Key, float, bool], None] | None = None) -> None:
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._due: dict[Key, float] = {}
        self._running: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._not_before: dict[Key, float] = {}
        self._moved_at = 0.0
        self._observe = observe

    @property
    def depth(self) -> int:
        """Keys that are due and not yet being worked on."""
        return len(self._due)

    @property
    def waiting(self) -> int:
        """Keys whose next pass comes later: after a failure, or to gather changes."""
        return len(self._timers)

    @property
    def failing(self) -> int:
        """Keys whose last pass failed, until one succeeds."""
        return len(self._failures)

    @property
    def running(self) -> int:
        """Keys that are being worked on."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        return not (self._due or self._running or self._again)

    def oldest_seconds(self) -> float:
        """How long the oldest key has been due or in work: what grows when the queue stands still."""
        since = [*self._due.values(), *self._running.values()]
        return _now() - min(since) if since else 0.0

    def stalled_seconds(self) -> float:
        """How long no pass has ended although some were due, or the age of the oldest that is in work."""
        stalled = _now() - max(self._moved_at, min(self._due.values())) if self._due else 0.0
        return max(stalled, _now() - min(self._running.values()) if self._running else 0.0)

    def add(self, key: Key) -> None:
        """Makes `key` due now. A retry that was waiting is overtaken, unless it must wait."""
        if (wait := self._not_before.get(key, 0.0) - _now()) > 0 and key not in self._running:
            self._later(key, wait)
            return
        self._not_before.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._due:
            self._due[key] = _now()
            self._ready.put_nowait(key)

    def hurry(self) -> None:
        """Makes every retry due that waits for what may be over now, such as an outage."""
        for key in list(self._timers):
            self.add(key)

    def add_soon(self, key: Key) -> None:
        """Makes `key` due in a second, for keys that many changes at once concern."""
        if key not in self._due:
            self._later(key, SOON_SECONDS)

    def add_in(self, key: Key, seconds: float) -> None:
        """Makes `key` due by then, for what nobody reports."""
        if key not in self._due:
            self._later(key, seconds)

    async def run(self, handle: Callable[[Key], Awaitable[None]], *, workers: int) -> None:
        # What a follower gathered while it waited has not been late for work.
        self._due = dict.fromkeys(self._due, _now())
        self._moved_at = _now()
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(handle), name=f"worker {number}")

    async def _work(self, handle: Callable[[Key], Awaitable[None]]) -> None:
        while True:
            key = await self._ready.get()
            del self._due[key]
            started = self._running[key] = _now()
            succeeded, after = False, 0.0
            try:
                await handle(key)
                succeeded = True
            except RetryError as retry:
                after = retry.after_seconds
                self._tell(key, retry)
            except Exception:
                logger.exception(
                    "A pass over %s failed; it will be repeated", key, extra={"reason": "InternalError"}
                )
            finally:
                del self._running[key]
                self._moved_at = _now()
            self._settle(key, succeeded=succeeded, after_seconds=after)
            if self._observe:
                self._observe(key, _now() - started, succeeded)
            # A pass that writes nothing awaits nothing: thousands after a start would let nobody else come to
            # turn, and the Lease would be lost.
            await asyncio.sleep(0)

    def _tell(self, key: Key, retry: RetryError) -> None:
        """At 1, 2, 4, 8 failures in a row, so that what goes on for ever does not fill the log."""
        failures = self._failures.get(key, 0) + 1
        if failures & (failures - 1) == 0:
            logger.log(
                logging.INFO if failures == 1 else logging.WARNING,
                "%s is tried again, failed %d times in a row: %s",
                key,
                failures,
                retry,
                extra={"reason": "Retried"},
            )

    def _settle(self, key: Key, *, succeeded: bool, after_seconds: float) -> None:
        if succeeded:
            self._failures.pop(key, None)
        else:
            self._failures[key] = self._failures.get(key, 0) + 1
        if after_seconds:
            self._again.discard(key)
            self._not_before[key] = _now() + after_seconds
            self.add(key)
        elif succeeded and key in self._again:
            self._again.discard(key)
            self.add(key)
        elif not succeeded:
            jitter = random.random()  # noqa: S311  # spreads load
            delay = retry_delay_seconds(self._failures[key], jitter)
            # A pass that fails may well be what touched it.
            self._later(key, min(delay, SOON_SECONDS) if key in self._again else delay)
            self._again.discard(key)

    def _later(self, key: Key, seconds: float) -> None:
        """By then at the latest: of two wishes the earlier one counts."""
        if timer := self._timers.get(key):
            if timer.when() <= _now() + seconds:
                return
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._on_time, key)

    def _on_time(self, key: Key) -> None:
        # A timer that has fired must not stand in the way of the next: the key may still have to wait.
        self._timers.pop(key, None)
        self.add(key)


def retry_delay_seconds(failures: int, jitter: float) -> float:
    """Doubles with each failure up to a minute; `jitter` in 0..1 takes up to a quarter off.

    So keys that failed together do not come back together.
    """
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 16), LAST_DELAY_SECONDS) * (1 - jitter / 4)


def _now() -> float:
    return asyncio.get_running_loop().time()
