"""Models that come and go while the engine runs, as a file says: the door of `Shared` engines.

Each model has a pool of its own, so that one that loads, fails or leaves concerns no other. Nothing is loaded
while something is being unloaded: both would want the same memory. Where a budget is set, `memory` counts
that, and models that are not used make room for others.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

from typing_extensions import override

from roundhouse_engine.accelerator import ACCELERATOR
from roundhouse_engine.answers import Answers
from roundhouse_engine.errors import Refusal, model_failed, refused
from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.lease import Lease
from roundhouse_engine.memory import Memory, MemoryStatus
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.model_life import ModelLife
from roundhouse_engine.models import ModelState, ModelStatus
from roundhouse_engine.models_file import Desired, Source
from roundhouse_engine.pool import Pool
from roundhouse_engine.settings import Settings
from roundhouse_engine.surroundings import Surroundings, Turns

T = TypeVar("T")

LOADS_AT_ONCE: Final = 2
"""One that takes minutes does not keep all others waiting, and twenty do not fill the memory at once."""


class Lobby(Pool):
    """Requests whose form has not named its model yet."""

    def __init__(self, metrics: Metrics, seats: Callable[[], int]) -> None:
        super().__init__([], metrics)
        self._seats = seats

    @property
    @override
    def slots(self) -> int:
        return self._seats()


class Fleet:
    """All models of the list that `source` gives. `build` makes the pool of one, not yet started."""

    def __init__(
        self,
        source: Source,
        build: Callable[[ModelSpec], Pool],
        metrics: Metrics,
        settings: Settings,
        memory: Memory | None = None,
    ) -> None:
        """`memory`: where others count what they hold as well."""
        self._source = source
        self._build = build
        self._metrics = metrics
        self.answers = Answers()
        self._slots = settings.capacity
        self._patience_seconds = settings.load_patience_seconds
        self._memory = memory or Memory(settings.memory_budget_bytes)
        self._complete = settings.models_file is not None
        self._lobby = Lobby(metrics, lambda: self.slots)
        self._lives: dict[str, ModelLife] = {}
        self._desired: Desired | None = None
        self._fewer_leave = asyncio.Event()
        self._surroundings = Surroundings(
            self._turn,
            # What one load takes is measured where no other disturbs it, unless that other takes too long.
            Turns(1 if self._memory.bounded else LOADS_AT_ONCE, settings.load_patience_seconds),
            self._gone,
            self._memory,
            metrics,
            settings.capacity,
            settings.drain_seconds,
            settings.memory_wait_seconds,
        )

    @property
    def draining(self) -> bool:
        return self._lobby.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._lobby.draining = value
        for life in self._lives.values():
            if life.pool is not None:
                life.pool.draining = value

    async def leaving(self) -> None:
        """Returns once it drains."""
        await self._lobby.leaving()

    @property
    def desired(self) -> Desired:
        """The list as it was told last; empty, of generation 0, before any was."""
        return self._desired or Desired(0)

    @property
    def generation(self) -> int:
        return self.desired.generation

    def take(self, desired: Desired) -> None:
        """Serve this from now on, until another list comes."""
        self._desired = desired
        self._settle()

    @property
    def ready(self) -> bool:
        """A model of a file that is still loading keeps no other from being served.

        What the environment names is there as a whole, as in an engine without a budget.
        """
        if self._desired is None or self.draining or ACCELERATOR.lost:
            return False
        self._complete = self._complete or all(model.state is ModelState.READY for model in self.models)
        return self._complete

    @property
    def memory(self) -> MemoryStatus | None:
        return self._memory.status

    @property
    def capacity(self) -> int:
        return sum(life.capacity for life in self._lives.values())

    @property
    def in_use(self) -> int:
        return self._lobby.in_use + sum(pool.in_use for pool in self._pools())

    @property
    def computing(self) -> int:
        return sum(pool.computing for pool in self._pools())

    @property
    def waiting(self) -> int:
        return sum(life.waiting for life in self._lives.values())

    @property
    def overdue(self) -> int:
        return sum(pool.overdue for pool in (*self._pools(), *self._surroundings.being_freed))

    @property
    def hung(self) -> bool:
        """A model that is being unloaded is so for as long as one of its threads computes."""
        kept = any(pool.partly_hung for pool in self._surroundings.being_freed)
        return kept or any(pool.hung for pool in self._pools())

    @property
    def sessions_in_use(self) -> int:
        return sum(pool.sessions_in_use for pool in self._pools())

    @property
    def slots(self) -> int:
        return self._slots * len(self._lives)

    @property
    def names(self) -> tuple[str, ...]:
        wanted = dict.fromkeys(model.name for model in self.desired.models)
        return (*wanted, *(name for name in self._lives if name not in wanted))

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        return tuple(map(self._status, self.names))

    def admit(self) -> Lease:
        refusal = self._refusal()
        if refusal is not None:
            self._metrics.refused.labels(refusal.value).inc()
            raise refused(refusal)
        lease = Lease(self._lobby)
        self._lobby.enter(lease)
        return lease

    def _refusal(self) -> Refusal | None:
        """Which model it is for shows in the form: until then any that has a place will do."""
        if self.draining:
            return Refusal.DRAINING
        if self._desired is None or ACCELERATOR.lost:
            return Refusal.LOADING
        up = [life for life in self._lives.values() if life.capacity]
        if not up:
            # Of an engine that serves nothing, one request at a time is read, to be told so.
            coming = any(life.status.state is not ModelState.FAILED for life in self._lives.values())
            return Refusal.LOADING if coming or self._lobby.in_use else None
        full = self.in_use >= self.capacity or not any(life.free for life in up)
        return Refusal.FULL if full else None

    def pool_of(self, model: str) -> Pool:
        life = self._lives.get(model)
        if life is not None and life.pool is not None and life.pool.capacity:
            return life.pool
        error = self._desired.refused.get(model) if self._desired else None
        if error is not None:
            raise model_failed(model, error, again=False)
        raise refused(Refusal.LOADING) if life is None else life.refusal()

    def away(self, model: str) -> bool:
        life = self._lives.get(model)
        return life is not None and life.away

    async def once_loaded(self, model: str, take: Callable[[Pool], T]) -> T:
        life = self._lives.get(model)
        # It may have left the list since it was found to be away.
        return take(self.pool_of(model)) if life is None else await life.once_loaded(take)

    async def supervise(self) -> str:
        """Follows the list until cancelled."""
        try:
            async for desired in self._source.follow():
                self.take(desired)
        finally:
            lives = list(self._lives.values())
            for life in lives:
                life.end()
            await asyncio.gather(*(life.ended() for life in lives))
        raise AssertionError("the list is followed for ever")

    async def drained(self) -> None:
        await self._lobby.drained()
        await asyncio.gather(*(pool.drained() for pool in self._pools()))
        await self.answers.written()

    def evict(self) -> None:
        for pool in (self._lobby, *self._pools()):
            pool.evict()

    def _pools(self) -> list[Pool]:
        return [life.pool for life in self._lives.values() if life.pool is not None]

    def _settle(self) -> None:
        """Let go what is no longer wanted as it is, and begin what is wanted and not there."""
        assert self._desired is not None  # noqa: S101 - it was just read
        wanted = {
            model.name: model for model in self._desired.models if model.name not in self._desired.refused
        }
        for name, life in self._lives.items():
            if wanted.get(name) == life.model:
                life.stay()
            else:
                life.leave()
        for name, model in wanted.items():
            if name not in self._lives and not self.draining:
                self._lives[name] = ModelLife(model, self._build, self._surroundings)
        self._fewer_leave.set()

    async def _turn(self) -> None:
        """Returns once nothing is being unloaded, or at once where that is counted.

        What cannot be unloaded, because its load never ends, keeps others waiting as long as that load would:
        each model that comes afterwards, anew.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_seconds):
                while not self._memory.bounded and any(life.leaving for life in self._lives.values()):
                    self._fewer_leave.clear()
                    await self._fewer_leave.wait()

    def _gone(self, life: ModelLife) -> None:
        del self._lives[life.model.name]
        self._settle()  # it may be wanted again, as another

    def _status(self, name: str) -> ModelStatus:
        life = self._lives.get(name)
        if life is not None:
            return life.status
        error = self._desired.refused.get(name) if self._desired else None
        state = ModelState.FAILED if error else ModelState.LOADING
        return ModelStatus(name, state, 0.0, 0, 0, error=error)
