"""Thousands of variants, of which some are edited: what it costs, and how soon it reaches a Deployment."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from roundhouse_operator.core.kinds import DEPLOYMENT, ENGINE, VARIANT
from tests.bench.burst import AT_ONCE, Client, apply_write, patch_write
from tests.unit.operator.samples import engine, variant

PROBED: Final = 50
"""Variants of the engine on which edits are made: as many however many there are of others."""
ENGINES: Final = 40
OPEN_SECONDS: Final = 5.0
"""For a watch to tell what is there before it tells what changes."""


@dataclass
class Crowd:
    """Variants at zero replicas on a few engines, of which the first is edited and the others are there."""

    client: Client
    namespace: str
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311  # the same each time
    count: int = 0

    async def grow(self, count: int) -> None:
        """To `count` variants in all."""
        if not self.count:
            for number in range(ENGINES):
                await self.client.send(apply_write(ENGINE, self.namespace, engine(f"crowd-{number}")))
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            on = f"crowd-{0 if number < PROBED else 1 + number % (ENGINES - 1)}"
            made = variant(f"v{number:05}", on=on, replicas=0, aliases=[f"alias-{number:05}"])
            async with places:
                await self.client.send(apply_write(VARIANT, self.namespace, made))

        async with asyncio.TaskGroup() as group:
            for number in range(self.count, count):
                group.create_task(one(number))
        self.count = max(count, self.count)

    async def edit(self, name: str) -> None:
        """Something that the Deployment shows."""
        changed: Any = {"spec": {"env": [{"name": "EDIT", "value": f"{time.time_ns()}"}]}}
        await self.client.send(patch_write(VARIANT, self.namespace, name, changed))

    def probed(self) -> str:
        return f"v{self.chance.randrange(PROBED):05}"

    async def latencies(self, edits: int, bound_seconds: float) -> list[float]:
        """Seconds from an edit to its Deployment, one after the other; the bound where none comes."""
        found: list[float] = []
        async with _followed(self.client, self.namespace) as deployments:
            for _ in range(edits):
                name = f"v{self.chance.randrange(self.count):05}"
                began = time.monotonic()
                changed = deployments.expect(name)
                await self.edit(name)
                await asyncio.wait([changed], timeout=bound_seconds)
                found.append(time.monotonic() - began)
        return sorted(found)


@dataclass
class _Deployments:
    """The generation of each, as a watch tells it."""

    generations: dict[str, int] = field(default_factory=dict)
    expected: dict[str, "asyncio.Future[None]"] = field(default_factory=dict)

    def expect(self, name: str) -> "asyncio.Future[None]":
        """Done once the Deployment has another generation."""
        self.expected[name] = asyncio.get_running_loop().create_future()
        return self.expected[name]

    def see(self, name: str, generation: int) -> None:
        before = self.generations.get(name)
        self.generations[name] = generation
        if before is not None and before != generation and (future := self.expected.pop(name, None)):
            future.set_result(None)


@asynccontextmanager
async def _followed(client: Client, namespace: str) -> AsyncIterator[_Deployments]:
    deployments, opened = _Deployments(), asyncio.Event()

    async def follow() -> None:
        async for manifest in client.watch(DEPLOYMENT, namespace):
            if manifest is None:
                opened.set()
            else:
                metadata = manifest["metadata"]
                deployments.see(metadata["name"], metadata["generation"])

    task = asyncio.create_task(follow())
    await opened.wait()
    await asyncio.sleep(OPEN_SECONDS)
    try:
        yield deployments
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
