"""Who is asked now: neither a slow engine nor a full namespace keeps others waiting."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from roundhouse_operator.errands import AT_ONCE, PER_NAMESPACE, SLOW_AT_ONCE, Errands


@dataclass(eq=False)
class Job:
    name: str
    namespace: str = "speech"
    slow: bool = False
    end: asyncio.Event = field(default_factory=asyncio.Event)


class Office:
    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.waited: list[float] = []
        self.errands: Errands[Job] = Errands(self._work, self.waited.append)
        self._running = asyncio.create_task(self.errands.run())

    async def _work(self, job: Job) -> None:
        self.at_work.append(job.name)
        try:
            await job.end.wait()
        finally:
            self.at_work.remove(job.name)

    async def until(self, *names: str) -> None:
        for _ in range(1000):
            await asyncio.sleep(0)
            if sorted(self.at_work) == sorted(names):
                return
        raise AssertionError(f"{self.at_work}, not {names}")

    async def close(self) -> None:
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running


async def test_a_namespace_has_not_all_places() -> None:
    office = Office()
    jobs = [Job(f"many-{number:02}") for number in range(AT_ONCE)]
    for job in (*jobs, Job("other", "chat")):
        office.errands.add(job)
    await office.until("other", *(one.name for one in jobs[:PER_NAMESPACE]))
    jobs[0].end.set()
    await office.until("other", *(one.name for one in jobs[1 : PER_NAMESPACE + 1]))
    await office.close()


async def test_what_was_slow_waits_for_its_like() -> None:
    office = Office()
    slow = [Job(f"slow-{number}", slow=True) for number in range(SLOW_AT_ONCE + 2)]
    for job in (*slow, Job("new")):
        office.errands.add(job)
    await office.until("new", *(one.name for one in slow[:SLOW_AT_ONCE]))
    slow[0].end.set()
    slow[0].slow = False  # while it worked it turned out well
    await office.until("new", *(one.name for one in slow[1 : SLOW_AT_ONCE + 1]))
    await office.close()


async def test_it_is_told_how_long_a_job_stood_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = 0.0
    monkeypatch.setattr("roundhouse_operator.errands._now", lambda: hours * 3600)
    office = Office()
    jobs = [Job(f"many-{number:02}") for number in range(PER_NAMESPACE + 1)]
    for job in jobs:
        office.errands.add(job)
    await office.until(*(one.name for one in jobs[:-1]))
    assert office.waited == [0.0] * PER_NAMESPACE
    hours = 1.5
    jobs[0].end.set()
    await office.until(*(one.name for one in jobs[1:]))
    assert office.waited[PER_NAMESPACE:] == [5400.0]
    await office.close()
