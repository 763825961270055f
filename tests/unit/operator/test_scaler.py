"""The scaler's hands: when it looks, how often it writes, and what a refused write does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from roundhouse_operator.cluster import Cluster
from roundhouse_operator.core.kinds import VARIANT, Key
from roundhouse_operator.core.scaling import Load, Policy
from roundhouse_operator.errors import ConflictError, NotFoundError
from roundhouse_operator.scaler import Aim, Scaler

KWS = Key(VARIANT, "speech", "kws")
POLICY = Policy(floor=0, ceiling=4, target=1, idle_seconds=60)
ASLEEP = Aim(POLICY, replicas=0, ready=False, version=10)


@dataclass
class Writes:
    """Stands for the API server: versions grow, and a write of an older one is refused."""

    version: int = 10
    taken: list[int] = field(default_factory=list)
    refused: int = 0
    gone: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def scale(self, key: Key, replicas: int, *, version: int) -> int:
        self.asked.set()
        if self.gone:
            raise NotFoundError(404, "NotFound", str(key))
        if version != self.version:
            self.refused += 1
            raise ConflictError(409, "Conflict", "the object has been modified")
        self.version += 1
        self.taken.append(replicas)
        return self.version


@dataclass
class House:
    writes: Writes
    scaler: Scaler
    directions: list[str]

    def held(self, count: int) -> None:
        self.scaler.loads.tell("g", KWS, Load(held=count), asyncio.get_running_loop().time())

    async def until(self, taken: list[int]) -> None:
        async with asyncio.timeout(10):
            while self.writes.taken != taken:
                self.writes.asked.clear()
                await self.writes.asked.wait()


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    writes, directions = Writes(), list[str]()
    scaler = Scaler(cast("Cluster", writes), directions.append)
    scaler.loads.expect("g", ready=True)
    scaler.loads.beat("g", asyncio.get_running_loop().time())
    running = asyncio.create_task(scaler.run())
    try:
        yield House(writes, scaler, directions)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_burst_is_one_write_at_once_and_one_a_second_later() -> None:
    async with house() as one:
        one.scaler.follow(KWS, ASLEEP)
        one.held(1)
        await one.until([1])
        for count in range(2, 9):
            one.held(count)
            await asyncio.sleep(0)
        assert one.writes.taken == [1]
        await one.until([1, 4])
        assert one.directions == ["up", "up"]
        assert one.writes.refused == 0, "its own write is known before the watch tells of it"


async def test_a_pass_that_saw_an_older_object_changes_nothing() -> None:
    async with house() as one:
        one.scaler.follow(KWS, ASLEEP)
        one.held(1)
        await one.until([1])
        one.scaler.follow(KWS, ASLEEP)
        await asyncio.sleep(0.05)
        assert one.writes.taken == [1]


async def test_a_write_that_lost_a_race_is_looked_at_anew() -> None:
    async with house() as one:
        one.scaler.follow(KWS, ASLEEP)
        one.writes.version = 11
        one.held(1)
        await asyncio.wait_for(one.writes.asked.wait(), 60)
        one.scaler.follow(KWS, Aim(POLICY, replicas=0, ready=False, version=11))
        await one.until([1])


@pytest.mark.parametrize("gone", [True, False])
async def test_what_is_not_ours_is_left_alone(gone: bool) -> None:
    async with house() as one:
        one.writes.gone = gone
        one.scaler.follow(KWS, ASLEEP)
        if not gone:
            one.scaler.follow(KWS, None)
        one.held(1)
        await asyncio.sleep(0.05)
        assert one.writes.taken == []
