"""Models that come and go while the engine runs, as a file says: the door of `Shared` engines.

Each model has a pool of its own, so that one that loads, fails or leaves concerns no other. Nothing is loaded
while something is being unloaded: both would want the same memory.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from roundhouse_engine.answers import Answers
from roundhouse_engine.errors import EngineError, Problem, Refusal, refused
from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.model_life import ModelLife, Surroundings
from roundhouse_engine.models import ModelState, ModelStatus
from roundhouse_engine.models_file import Desired, ModelsFile
from roundhouse_engine.pool import Pool

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
    """All models of the file. `build` makes the pool of one, not yet started; `slots` is what each has.

    `drain_seconds`: how long one that leaves may finish what it has begun.
    """

    def __init__(
        self,
        file: ModelsFile,
        build: Callable[[ModelSpec], Pool],
        metrics: Metrics,
        *,
        slots: int,
        drain_seconds: float,
    ) -> None:
        self._file = file
        self._build = build
        self._metrics = metrics
        self.answers = Answers()
        self._slots = slots
        self._lobby = Lobby(metrics, lambda: self.slots)
        self._lives: dict[str, ModelLife] = {}
        self._desired: Desired | None = None
        self._fewer_leave = asyncio.Event()
        self._surroundings = Surroundings(
            self._turn, asyncio.Semaphore(LOADS_AT_ONCE), self._gone, drain_seconds
        )
        self._draining = False

    @property
    def draining(self) -> bool:
        return self._draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._draining = value
        for life in self._lives.values():
            if life.pool is not None:
                life.pool.draining = value

    @property
    def generation(self) -> int:
        return self._desired.generation if self._desired else 0

    @property
    def ready(self) -> bool:
        """A model that is still loading keeps no other from being served."""
        return self._desired is not None and not self._draining

    @property
    def capacity(self) -> int:
        return sum(pool.capacity for pool in self._pools())

    @property
    def in_use(self) -> int:
        return self._lobby.in_use + sum(pool.in_use for pool in self._pools())

    @property
    def computing(self) -> int:
        return sum(pool.computing for pool in self._pools())

    @property
    def sessions_in_use(self) -> int:
        return sum(pool.sessions_in_use for pool in self._pools())

    @property
    def slots(self) -> int:
        return self._slots * len(self._lives)

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        wanted = [model.name for model in self._desired.models] if self._desired else []
        leaving = [name for name in self._lives if name not in wanted]
        return tuple(self._status(name) for name in (*wanted, *leaving))

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
        if self._draining:
            return Refusal.DRAINING
        if self._desired is None:
            return Refusal.LOADING
        up = [pool for pool in self._pools() if pool.capacity]
        if not up:
            # Of an engine that serves nothing, one request at a time is read, to be told so.
            return Refusal.LOADING if self._lives or self._lobby.in_use else None
        full = self.in_use >= self.capacity or not any(pool.free for pool in up)
        return Refusal.FULL if full else None

    def pool_of(self, model: str) -> Pool:
        life = self._lives.get(model)
        if life is not None and life.pool is not None and life.pool.capacity:
            return life.pool
        error = self._desired.refused.get(model) if self._desired else None
        error = error or (life.error if life else None)
        if error is None:
            raise refused(Refusal.LOADING)
        raise EngineError(
            Problem(
                503,
                "service_unavailable",
                "model_failed",
                f"The model {model!r} could not be loaded, which is tried again: {error}",
                "model",
                Refusal.LOADING,
                5,
            )
        )

    async def supervise(self) -> str:
        """Follows the file until cancelled."""
        try:
            async for desired in self._file.follow():
                self._desired = desired
                self._settle()
        finally:
            lives = list(self._lives.values())
            for life in lives:
                life.end()
            await asyncio.gather(*(life.ended() for life in lives))
        raise AssertionError("the file is followed for ever")

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
            if name not in self._lives and not self._draining:
                self._lives[name] = ModelLife(model, self._build, self._surroundings)
        self._fewer_leave.set()

    async def _turn(self) -> None:
        """Returns once nothing is being unloaded."""
        while any(life.leaving for life in self._lives.values()):
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
