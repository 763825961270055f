"""What the models of one engine have in common, and how their loads take turns."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from roundhouse_engine.freeing import aside, begin
from roundhouse_engine.memory import Memory
from roundhouse_engine.metrics import Metrics

if TYPE_CHECKING:
    from roundhouse_engine.model_life import ModelLife
    from roundhouse_engine.pool import Pool

logger = logging.getLogger(__name__)

FREED_SECONDS: Final = 10.0
"""Others load no model for as long as one is freed; a thread of it that computes on may do so for ever."""


class Turns:
    """Loads, `at_once` of them. One that takes longer than `patience_seconds` keeps others waiting no more.

    It may be stuck, on a file system that does not answer, and a thread cannot be ended. What it holds by
    then and what it may come to hold is still counted. Where a model's memory is measured by the process's
    growth, what it takes and what loads beside it then count for both: too much, for as long as they are in
    the list.
    """

    def __init__(self, at_once: int, patience_seconds: float) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._held: set[str] = set()
        self._patience_seconds = patience_seconds

    @contextlib.asynccontextmanager
    async def turn(self, model: str, patience_seconds: float | None = None) -> AsyncGenerator[None, None]:
        """Around a load, or its end; waits for a place, but within another turn of the model's."""
        patience_seconds = self._patience_seconds if patience_seconds is None else patience_seconds
        if model in self._held:
            yield
            return
        await self._places.acquire()
        self._held.add(model)
        holds = contextlib.ExitStack()
        holds.callback(self._places.release)
        timer = asyncio.get_running_loop().call_later(
            patience_seconds, self._pass_on, model, holds, patience_seconds
        )
        try:
            yield
        finally:
            timer.cancel()
            self._held.remove(model)
            holds.close()

    def _pass_on(self, model: str, holds: contextlib.ExitStack, seconds: float) -> None:
        told = {"model": model, "seconds": seconds}
        logger.warning("model still loads or unloads, and others need not wait for it any more", extra=told)
        holds.close()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the models of one engine have in common.

    `turn` returns when something may be loaded, `gone` is called when all is over with a model. One that
    leaves has `drain_seconds` to finish what it has begun. A request waits `wait_seconds` for its model to be
    loaded again. `slots` is what each model has.
    """

    turn: Callable[[], Awaitable[None]]
    loading: Turns
    gone: Callable[["ModelLife"], None]
    memory: Memory
    metrics: Metrics
    slots: int
    drain_seconds: float
    wait_seconds: float
    being_freed: "list[Pool]" = field(default_factory=list)
    """Whose models nobody may use any more, and of which threads may compute on."""

    async def free(self, pool: "Pool") -> None:
        """Returns once its memory is free: never, where one of its threads computes for ever.

        Where memory is bounded it takes its turn: of what is loaded meanwhile, the process's growth would be
        less than it takes. One that leaves the list while it waits for that is freed at once.
        """
        async with contextlib.AsyncExitStack() as over:
            if self.memory.bounded:
                try:
                    await over.enter_async_context(self.loading.turn(pool.names[0], FREED_SECONDS))
                except asyncio.CancelledError:
                    begin(pool.release)
                    raise
            self.being_freed.append(pool)
            over.callback(self.being_freed.remove, pool)
            await aside(pool.release)
