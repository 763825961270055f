"""The load: so many clients beside each other, in a thread of its own, each asking for this and that."""

import asyncio
import random
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from tests.conformance.gateway.conftest import World
from tests.conformance.gateway.loop_thread import LoopThread
from tests.conformance.gateway.soak.caller import Keys
from tests.conformance.gateway.soak.clients import Clients
from tests.conformance.gateway.soak.nuisances import Nuisances
from tests.conformance.gateway.soak.sessions import Listeners
from tests.conformance.gateway.soak.tally import Tally

ASKING: Final = 12
LISTENING: Final = 3
THINKING_SECONDS: Final = 0.1
"""At most, between one request of a client and the next."""
LONGEST_SECONDS: Final = 300
"""Until what was begun is over, on a machine that has much else to do."""

Kinds = Mapping[Callable[[], Awaitable[None]], int]


@dataclass
class Crowd:
    """`begin` and `end` are called by the test's own thread."""

    world: World
    keys: Keys
    guests: list[str]
    audio: bytes
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._thread = LoopThread()
        self._over = asyncio.Event()
        self._running: Future[None] | None = None

    def begin(self) -> None:
        self._over.clear()
        self._running = asyncio.run_coroutine_threadsafe(self._run(), self._thread.loop)

    def end(self) -> None:
        """Every client brings what it has begun to its end."""
        assert self._running is not None
        self._thread.loop.call_soon_threadsafe(self._over.set)
        self._running.result(LONGEST_SECONDS)

    def close(self) -> None:
        self._thread.close()

    def each_once(self) -> None:
        """One request of every kind."""
        asyncio.run_coroutine_threadsafe(self._each_once(), self._thread.loop).result(LONGEST_SECONDS)

    async def _run(self) -> None:
        async with self._people() as (asking, listening), asyncio.TaskGroup() as tasks:
            for number in range(ASKING):
                tasks.create_task(self._go_on(asking, number))
            for number in range(LISTENING):
                tasks.create_task(self._go_on(listening, -1 - number))

    async def _each_once(self) -> None:
        async with self._people() as (asking, listening):
            await asyncio.gather(*(self._guarded(kind) for kind in (*asking, *listening)))

    @asynccontextmanager
    async def _people(self) -> AsyncIterator[tuple[Kinds, Kinds]]:
        gateway, chance = self.world.gateway, random.Random(7)  # noqa: S311  # the same load each time
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            common = (gateway.port, gateway.metrics_port, self.keys, self.tally, chance, http, self.guests)
            listeners = Listeners(gateway.port, self.keys, self.tally, chance, http, self.audio)
            yield {**Clients(*common).kinds, **Nuisances(*common).kinds}, listeners.kinds

    async def _go_on(self, kinds: Kinds, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  # the same load each time
        while not self._over.is_set():
            (kind,) = chance.choices(list(kinds), list(kinds.values()))
            await self._guarded(kind)
            await asyncio.sleep(chance.uniform(0, THINKING_SECONDS))

    async def _guarded(self, kind: Callable[[], Awaitable[None]]) -> None:
        """What nobody foresaw is wrong too, and no reason to stop."""
        try:
            await kind()
        except Exception:  # noqa: BLE001  # told by the tally
            self.tally.fault(kind.__name__, traceback.format_exc()[-1500:])
