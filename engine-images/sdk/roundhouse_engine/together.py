"""Lets requests compute together: those that wait while something computes are next, in one batch.

Those that took a step together come to the next one after the other, so a batch that is not full waits a
moment for more, as `gathering` says. It knows nothing of models.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from traceback import clear_frames
from typing import Final, Generic, TypeVar

from roundhouse_engine.errors import memory_is_short
from roundhouse_engine.gathering import GUESS_SECONDS, moment_seconds, patience_seconds
from roundhouse_engine.handler import Cancellation, Cancelled
from roundhouse_engine.room import Room

logger = logging.getLogger(__name__)

# How soon one whose client left is out of the queue.
_LOOK_SECONDS: Final = 0.05

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Job(Generic[Item, Result]):
    item: Item
    key: Hashable
    cancellation: Cancellation
    results: list[Result] = field(default_factory=list)
    """The one result, once it is there."""
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return bool(self.results) or self.error is not None


class Together(Generic[Item, Result]):
    """`compute` gets at most `most` items of one key and gives as many results; `at_once` calls of it run.

    A batch that goes wrong, or is too large for the memory, is halved until who is at fault is alone; where
    it was the memory, those that follow are no larger for a while. Where two in a row fail alike when they
    are alone, it is the fault of none: a device is lost, say.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        most: int,
        at_once: int,
    ) -> None:
        self._compute = compute
        self._room = Room(most)
        self._at_once = at_once
        self._running = 0
        self._seconds = GUESS_SECONDS
        """What the last batch took."""
        self._waiting: list[_Job[Item, Result]] = []
        self._coming = 0
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Around what a request does before it comes with an item, so that a batch waits for it.

        Not for long, as `gathering` says, and where nobody is on the way a lone request waits for none.
        """
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1

    def __call__(self, item: Item, key: Hashable, cancellation: Cancellation) -> Result:
        """The item's result, computed in this thread or by another's; raises what `compute` raised."""
        job: _Job[Item, Result] = _Job(item, key, cancellation)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            try:
                while not job.done and not self._is_next(job):
                    cancellation.check()
                    self._changed.wait(_LOOK_SECONDS)
                if not job.done:
                    self._gather(key, cancellation)
                batch = [] if job.done else self._take(key)
            finally:
                if job in self._waiting:  # it left, and whoever came after it may be next
                    self._waiting.remove(job)
                    self._changed.notify_all()
        if batch:
            self._run(batch)
        try:
            if job.error is not None:
                raise job.error
            return job.results[0]
        finally:
            job.error = None  # its traceback knows frames that know the job

    def _is_next(self, job: _Job[Item, Result]) -> bool:
        return self._running < self._at_once and bool(self._waiting) and self._waiting[0] is job

    def _gather(self, key: Hashable, cancellation: Cancellation) -> None:
        """Wait for others to come, one within a moment after the other, and for those on the way.

        Whoever waits first stays first.
        """
        moment = moment_seconds(self._seconds)
        until = time.monotonic() + patience_seconds(self._seconds)
        there, before = self._count(key), 0
        while (before < there or self._coming) and there < self._room.now and time.monotonic() < until:
            before, quiet = there, time.monotonic() + moment
            while there == before and (left := quiet - time.monotonic()) > 0:
                cancellation.check()
                self._changed.wait(min(left, _LOOK_SECONDS))
                there = self._count(key)

    def _count(self, key: Hashable) -> int:
        return sum(job.key == key for job in self._waiting)

    def _take(self, key: Hashable) -> list[_Job[Item, Result]]:
        batch = [job for job in self._waiting if job.key == key][: self._room.now]
        self._waiting = [job for job in self._waiting if job not in batch]
        self._running += 1
        return batch

    def _run(self, batch: Sequence[_Job[Item, Result]]) -> None:
        began = time.monotonic()
        try:
            self._settle(batch)
        finally:
            with self._changed:
                self._seconds = time.monotonic() - began
                self._running -= 1
                self._changed.notify_all()

    def _settle(self, batch: Sequence[_Job[Item, Result]]) -> None:
        apart = [list(batch)]
        alone: tuple[type, str] | None = None
        while apart:
            group = _wanted(apart.pop())
            if len(group) > self._room.now:
                apart += _halves(group)
                continue
            try:
                results = self._computed(group)
            except BaseException as error:  # noqa: BLE001 - it is raised where each waits
                clear_frames(error.__traceback__)  # what was too large is gone before the next is computed
                if len(group) > 1:
                    if memory_is_short(error):
                        self._was_short(len(group))
                    apart += _halves(group)
                    continue
                group[0].error = error
                if alone == (kind := (type(error), str(error))):
                    for job in (job for rest in apart for job in rest):
                        job.error = error
                    return
                alone = kind
            else:
                if group:
                    alone = None  # whatever it was, not all share it
                for job, result in zip(group, results, strict=True):
                    job.results.append(result)

    def _computed(self, group: Sequence[_Job[Item, Result]]) -> Sequence[Result]:
        results = self._compute([job.item for job in group]) if group else ()
        if len(results) != len(group):
            raise RuntimeError(f"{len(results)} results were given for {len(group)} items")
        with self._changed:
            self._room.went_well()
        return results

    def _was_short(self, items: int) -> None:
        logger.warning("memory is short: batches are halved", extra={"items": items})
        with self._changed:
            self._room.was_short(items)


def _wanted(group: Sequence[_Job[Item, Result]]) -> list[_Job[Item, Result]]:
    """Those of whom somebody still waits for the result; the others are told at once."""
    for job in group:
        if job.cancellation.cancelled:
            job.error = Cancelled()
    return [job for job in group if job.error is None]


def _halves(group: list[_Job[Item, Result]]) -> list[list[_Job[Item, Result]]]:
    """The first of them last, where it is taken next."""
    half = len(group) // 2
    return [group[half:], group[:half]]
