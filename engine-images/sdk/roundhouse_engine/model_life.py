"""One model that came by a list, from its first load until it left the list and its memory is free again.

Where memory is bounded it may be unloaded meanwhile, for others, and is loaded again for the next request; it
is loaded once at the start all the same, to know that it can be and what it takes. A load that fails is tried
again, later each time. Unloading for good waits: for routers that have not heard yet, and, as long as the
engine may drain, for the requests that have begun.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from roundhouse_engine.draining import LINGER_SECONDS, drain
from roundhouse_engine.errors import EngineError, Refusal, memory_full, model_failed, refused
from roundhouse_engine.freeing import aside, end
from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.memory import file_bytes
from roundhouse_engine.models import ModelState, ModelStatus
from roundhouse_engine.pool import Pool
from roundhouse_engine.surroundings import Surroundings

logger = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_RETRY_SECONDS: Final = 5.0
LAST_RETRY_SECONDS: Final = 300.0
_WAITING: Final = 8  # for each slot: requests that wait until their model is loaded again


class ModelLife:
    """Begins at once."""

    def __init__(
        self, model: ModelSpec, build: Callable[[ModelSpec], Pool], surroundings: Surroundings
    ) -> None:
        self.model = model
        self.pool: Pool | None = None
        self.error: str | None = None
        self.away = False
        """Unloaded for others, and not loaded again yet."""
        self.needed_bytes = 0
        self.used_at = time.monotonic()
        self._loaded_bytes: int | None = None  # what it took when it was loaded first
        self._waiting = 0
        self._asked = asyncio.Event()
        self._settled = asyncio.Event()
        self._way = asyncio.Event()
        self._build = build
        self._surroundings = surroundings
        self._living = asyncio.create_task(self._live(), name=f"model {model.name}")
        self._leaving: asyncio.Task[None] | None = None

    @property
    def model_name(self) -> str:
        return self.model.name

    @property
    def leaving(self) -> bool:
        return self._leaving is not None

    @property
    def giving_way(self) -> bool:
        return self.leaving or self._way.is_set()

    @property
    def capacity(self) -> int:
        """Places for requests that it computes, or will once it is loaded again."""
        if self.away:
            return self._surroundings.slots
        return self.pool.capacity if self.pool is not None else 0

    @property
    def waiting(self) -> int:
        """Requests that nothing is computed of yet, for want of the model or of a slot."""
        return self._waiting + (self.pool.waiting if self.pool else 0)

    @property
    def free(self) -> bool:
        """Whether it takes one more request."""
        if self.away:
            return self._waiting < self._surroundings.slots * _WAITING
        return self.pool is not None and self.pool.free

    @property
    def idle(self) -> bool:
        kept = self._waiting or self.leaving or not self._settled.is_set()
        return self.pool is not None and self.pool.capacity > 0 and self.pool.idle and not kept

    @property
    def wanted(self) -> bool:
        return not self.away or self._waiting > 0

    @property
    def status(self) -> ModelStatus:
        pool = self.pool
        loaded = pool is not None and pool.capacity > 0
        state = ModelState.READY if loaded or self.away else ModelState.LOADING
        if state is ModelState.LOADING and pool is None and self.error:
            state = ModelState.FAILED
        return ModelStatus(
            self.model.name,
            ModelState.UNLOADING if self.leaving else state,
            progress=pool.progress(self.model.name) if pool else float(self.away),
            capacity=self.capacity,
            in_use=pool.in_use if pool else 0,
            loaded=loaded,
            vram_bytes=pool.footprint.vram_bytes(self.model.name) if pool else None,
            error=None if state is ModelState.READY else self.error,
            memory_bytes=None if self._loaded_bytes is None else self.needed_bytes,
            sessions=pool.places if pool else None,
        )

    async def once_loaded(self, take: Callable[[Pool], T]) -> T:
        """What `take` does with the pool, which stays until then; raises `EngineError`."""
        if self._waiting >= self._surroundings.slots * _WAITING:
            raise memory_full(self.model.name)
        self._waiting += 1
        self._asked.set()
        self._surroundings.memory.note()
        try:
            async with asyncio.timeout(self._surroundings.wait_seconds):
                await self._settled.wait()
            if self.pool is None or not self.pool.capacity:
                raise self.refusal()
            return take(self.pool)
        except TimeoutError:
            raise (refused(Refusal.LOADING) if self.pool else memory_full(self.model.name)) from None
        finally:
            self._waiting -= 1
            self._surroundings.memory.note()

    def refusal(self) -> EngineError:
        """Why it takes no request."""
        if self.error is None:
            return refused(Refusal.DRAINING if self.leaving else Refusal.LOADING)
        again = not self._surroundings.memory.never_holds(self._loaded_bytes or 0)
        return model_failed(self.model.name, self.error, again=again)

    def give_way(self) -> None:
        """Unload, which nobody notices but by having to wait; loaded again for the next request."""
        self.away = True
        self.pool = None
        self._settled.clear()
        self._asked.clear()
        self._way.set()

    def leave(self) -> None:
        """Unload, when nobody needs it any more."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name=f"leaving {self.model.name}")

    def stay(self) -> None:
        """Wanted after all: too late where it takes no more work, or where its life is being ended."""
        over = self._living.cancelling() or (self.pool is not None and self.pool.draining)
        if self._leaving is not None and not over:
            self._leaving.cancel()
            self._leaving = None
            self._surroundings.memory.note()  # it may make room for others again

    def end(self) -> None:
        """Now, with the engine: what still loads or computes is not waited for."""
        if self.pool is not None and not (self.pool.capacity and self.pool.idle):
            self.pool.release = lambda: None
        self._living.cancel()
        if self._leaving is not None:
            self._leaving.cancel()

    async def ended(self) -> None:
        await asyncio.gather(self._living, *filter(None, (self._leaving,)), return_exceptions=True)

    async def _live(self) -> None:
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            try:
                failure, served = await self._once()
            except Exception as error:
                logger.exception("model's life ended unforeseen", extra={"model": self.model.name})
                failure, served = f"{type(error).__name__}: {error}", False
            if failure is None:
                continue
            if served:
                retry_seconds = FIRST_RETRY_SECONDS
            self._fail(failure, again_seconds=retry_seconds)
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(retry_seconds * 2, LAST_RETRY_SECONDS)

    async def _once(self) -> tuple[str | None, bool]:
        """As `_serve`, from when it is wanted; nothing came of it where it is wanted no more."""
        memory, model = self._surroundings.memory, self.model
        if memory.never_holds(self._loaded_bytes or 0):
            await self._fail_for_good()
        if memory.never_holds(self.needed_bytes):  # by what a request took: it may have all
            self.needed_bytes = memory.budget_bytes or 0
        if self.away:
            await self._asked.wait()
        await self._surroundings.turn()
        self._way.clear()
        pool = self._build(model)
        if memory.budget_bytes is not None and self._loaded_bytes is None:
            guess = await aside(partial(file_bytes, model.path)) if model.path else 0
            self.needed_bytes = min(guess * pool.footprint.copies, memory.budget_bytes)
        if not await memory.enter(self):
            self._asked.clear()
            return None, False
        try:
            return await self._serve(pool)
        finally:
            memory.leave(self)

    async def _serve(self, pool: Pool) -> tuple[str | None, bool]:
        """Load and keep alive; returns why that ended, None where it gave way, and whether it served."""
        why, served = "removed", False
        async with self._surroundings.loading.turn(self.model.name):
            if not self.wanted:  # whoever asked has left meanwhile
                return None, False
            begun = time.monotonic()
            self._begin(pool)
            supervising = asyncio.create_task(pool.supervise())
            up = asyncio.create_task(pool.up())
            try:
                await asyncio.wait({supervising, up}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                await self._free(pool, supervising, up)
                raise
        way = asyncio.create_task(self._way.wait())
        try:
            served = up.done()
            if served:
                self._came(pool, time.monotonic() - begun)
            await asyncio.wait({supervising, way}, return_when=asyncio.FIRST_COMPLETED)
            failure = self.error = None if way.done() else supervising.result()
            why = "failed" if failure else "memory"
            return failure, served
        finally:
            await self._free(pool, supervising, up, way)
            if served:
                self._surroundings.metrics.unloads.labels(self.model.name, why).inc()

    async def _free(self, pool: Pool, *tasks: "asyncio.Task[object]") -> None:
        self.pool = None  # nobody is to join it any more, and whoever is in it would wait for ever
        pool.evict(self.refusal())
        await end(*tasks)
        await self._surroundings.free(pool)

    def _begin(self, pool: Pool) -> None:
        self.pool = pool
        self._settled.clear()
        for each in filter(None, (pool, pool.sessions)):
            each.on_change = lambda: self._note(pool)

    def _note(self, pool: Pool) -> None:
        """Something changed in the pool: a slot came up, or a request is over."""
        if pool.footprint.whole and self._loaded_bytes is None:
            self._loaded_bytes = self.needed_bytes = pool.footprint.held_bytes  # and no more what was guessed
        self.needed_bytes = max(self.needed_bytes, pool.footprint.held_bytes)
        self.used_at = time.monotonic()
        memory = self._surroundings.memory
        if memory.never_holds(self.needed_bytes) and self.idle:
            self.give_way()  # and `_live` does not load it again
        memory.note()

    def _came(self, pool: Pool, seconds: float) -> None:
        self.error = None
        self.away = False
        self._surroundings.metrics.model_load_seconds.labels(self.model.name).observe(seconds)
        self._settled.set()
        held = pool.footprint.held_bytes
        if self._loaded_bytes is None and self._surroundings.memory.never_holds(held):
            self._loaded_bytes = held  # one slot is too much already: it gives way before the others are up
        self._note(pool)
        told = {"model": self.model.name, "seconds": round(seconds, 3), "bytes": self.needed_bytes}
        logger.info("model loaded", extra=told)

    def _fail(self, failure: str, **told: float) -> None:
        self.error = failure
        self.away = False
        self._settled.set()
        logger.error("model not served", extra={"model": self.model.name, "why": failure, **told})

    async def _fail_for_good(self) -> None:
        """Until it leaves the list."""
        self._fail(
            f"It takes {self._loaded_bytes} bytes of memory, more than ROUNDHOUSE_MEMORY_BUDGET_BYTES "
            f"({self._surroundings.memory.budget_bytes}): raise it, or serve a smaller model."
        )
        await asyncio.Event().wait()

    async def _leave(self) -> None:
        pool = self.pool
        if pool is not None and pool.capacity:
            await asyncio.sleep(LINGER_SECONDS)
            await drain(pool, self.model.name, self._surroundings.drain_seconds)
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)
        self._settled.set()
        logger.info("model unloaded", extra={"model": self.model.name})
        self._surroundings.gone(self)
