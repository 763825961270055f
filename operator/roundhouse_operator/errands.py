"""Which pods are asked now, and which later: engines that are slow or bad keep nobody else waiting.

An engine that is still loading is asked again after a while and holds no place meanwhile. One that took a
request and never answered has only a few places, shared with its like, and no namespace has them all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

AT_ONCE: Final = 16
PER_NAMESPACE: Final = 8
SLOW_AT_ONCE: Final = 4


class Errand(Protocol):
    @property
    def namespace(self) -> str: ...

    @property
    def slow(self) -> bool:
        """Whether it took long and came to nothing the last time."""
        ...


Job = TypeVar("Job", bound=Errand)


class Errands(Generic[Job]):
    """`work` is called with each job, for as many at once as may be; `waited` is told the seconds before."""

    def __init__(
        self, work: Callable[[Job], Awaitable[None]], waited: Callable[[float], None] = lambda _: None
    ) -> None:
        self._work = work
        self._waited = waited
        self._waiting: list[tuple[Job, float]] = []
        self._running: Counter[str] = Counter()
        self._slow = 0
        self._news = asyncio.Event()

    def add(self, job: Job) -> None:
        self._waiting.append((job, _now()))
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                while job := self._next():
                    group.create_task(self._carry_out(job), name=f"errand in {job.namespace}")
                self._news.clear()
                await self._news.wait()

    def _next(self) -> Job | None:
        """The first that may begin, counted as running."""
        if self._running.total() >= AT_ONCE:
            return None
        for place, (job, since) in enumerate(self._waiting):
            full = self._running[job.namespace] >= PER_NAMESPACE
            if not full and not (job.slow and self._slow >= SLOW_AT_ONCE):
                del self._waiting[place]
                self._running[job.namespace] += 1
                self._slow += job.slow
                self._waited(_now() - since)
                return job
        return None

    async def _carry_out(self, job: Job) -> None:
        slow, namespace = job.slow, job.namespace
        try:
            await self._work(job)
        finally:
            self._slow -= slow
            self._running[namespace] -= 1
            if not self._running[namespace]:
                del self._running[namespace]
            self._news.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
