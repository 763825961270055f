"""One model that came by the file, from its first load until its memory is free again.

A load that fails is tried again, later each time. Unloading waits: for routers that have not heard yet, and,
as long as the engine may drain, for the requests that have begun.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from roundhouse_engine.handler import ModelSpec
from roundhouse_engine.models import ModelState, ModelStatus
from roundhouse_engine.pool import Pool

logger = logging.getLogger(__name__)

LINGER_SECONDS: Final = 5.0
"""How long a model that left the list still takes work: routers learn of it within moments, not at once."""
FLUSH_SECONDS: Final = 2.0
"""For clients to be told that their time is over."""
FIRST_RETRY_SECONDS: Final = 5.0
LAST_RETRY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the models of one engine have in common.

    `turn` returns when something may be loaded, `gone` is called when all is over with a model. One that
    leaves has `drain_seconds` to finish what it has begun.
    """

    turn: Callable[[], Awaitable[None]]
    loading: asyncio.Semaphore
    gone: Callable[["ModelLife"], None]
    drain_seconds: float


class ModelLife:
    """Begins at once."""

    def __init__(
        self, model: ModelSpec, build: Callable[[ModelSpec], Pool], surroundings: Surroundings
    ) -> None:
        self.model = model
        self.pool: Pool | None = None
        self.error: str | None = None
        self._build = build
        self._surroundings = surroundings
        self._living = asyncio.create_task(self._live(), name=f"model {model.name}")
        self._leaving: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> bool:
        return self._leaving is not None

    @property
    def status(self) -> ModelStatus:
        pool, name = self.pool, self.model.name
        if pool is None:
            state = ModelState.FAILED if self.error else ModelState.LOADING
            return ModelStatus(name, self._told(state), 0.0, 0, 0, error=self.error)
        state = ModelState.READY if pool.capacity else ModelState.LOADING
        return ModelStatus(
            name,
            self._told(state),
            pool.progress(name),
            pool.capacity,
            pool.in_use,
            pool.vram_bytes(name),
            self.error if state is ModelState.LOADING else None,
            pool.places,
        )

    def _told(self, state: ModelState) -> ModelState:
        return ModelState.UNLOADING if self.leaving else state

    def leave(self) -> None:
        """Unload, when nobody needs it any more."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name=f"leaving {self.model.name}")

    def stay(self) -> None:
        """Wanted after all: too late only where it takes no more work."""
        if self._leaving is not None and self.pool is not None and not self.pool.draining:
            self._leaving.cancel()
            self._leaving = None

    def end(self) -> None:
        """Now, with the engine."""
        self._living.cancel()
        if self._leaving is not None:
            self._leaving.cancel()

    async def ended(self) -> None:
        await asyncio.gather(self._living, *filter(None, (self._leaving,)), return_exceptions=True)

    async def _live(self) -> None:
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            await self._surroundings.turn()
            failure, served = await self._serve()
            if served:
                retry_seconds = FIRST_RETRY_SECONDS
            self.error = failure
            logger.error(
                "model not served",
                extra={"model": self.model.name, "why": failure, "again_seconds": retry_seconds},
            )
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(retry_seconds * 2, LAST_RETRY_SECONDS)

    async def _serve(self) -> tuple[str, bool]:
        """Load and keep alive; returns why that came to an end, and whether it served meanwhile."""
        pool = self._build(self.model)
        async with self._surroundings.loading:
            self.pool = pool
            supervising = asyncio.create_task(pool.supervise())
            up = asyncio.create_task(pool.up())
            try:
                await asyncio.wait({supervising, up}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                await _end(supervising, up)
                self.pool = None
                raise
        try:
            served = up.done()
            if served:
                self.error = None
            return await supervising, served
        finally:
            await _end(supervising, up)
            self.pool = None
            await asyncio.to_thread(pool.release)

    async def _leave(self) -> None:
        pool = self.pool
        if pool is not None and pool.capacity:
            await asyncio.sleep(LINGER_SECONDS)
            pool.draining = True
            await self._drained(pool)
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)
        logger.info("model unloaded", extra={"model": self.model.name})
        self._surroundings.gone(self)

    async def _drained(self, pool: Pool) -> None:
        """As at the end of the engine: a client that takes its time keeps no other model from its memory."""
        try:
            async with asyncio.timeout(self._surroundings.drain_seconds):
                await pool.drained()
        except TimeoutError:
            told = {"model": self.model.name, "in_use": pool.in_use}
            logger.warning("drain deadline passed", extra=told)
            pool.evict()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await pool.drained()


async def _end(*tasks: "asyncio.Task[object]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
