"""An admitted request's hold on a pool, from its first byte to its answer. Who is admitted `pool` decides."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from roundhouse_engine.errors import EngineError
from roundhouse_engine.events import Event, Work
from roundhouse_engine.text_events import TextAsk

if TYPE_CHECKING:
    from roundhouse_engine.batching import Item, Outcome
    from roundhouse_engine.pool import Pool

# An upload within the cluster takes less; what takes longer comes over a slow line, and may take minutes.
_UPLOAD_SECONDS: Final = 2.0


class Lease:
    """An admitted request, from its first byte to its answer.

    It has a place until a slot computes for it. A slow upload loses its place after a moment, so that it
    keeps nobody out, and waits for another once everything is there. Leaving the context ends the request.
    """

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._patience: asyncio.Timeout | None = None
        self._verdict: EngineError | None = None
        self.begun = time.monotonic()
        self.placed = True
        self._arrived = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.placed = False
        self._pool.end(self)

    @property
    def uploading(self) -> bool:
        return self._patience is not None and self._verdict is None and not self._arrived

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncGenerator[None, None]:
        """Around everything before the work; raises `EngineError` when the request is evicted."""
        grace = asyncio.get_running_loop().call_later(_UPLOAD_SECONDS, self._step_aside)
        try:
            async with self._evictable():
                yield
        finally:
            grace.cancel()

    @contextlib.asynccontextmanager
    async def _evictable(self) -> AsyncGenerator[None, None]:
        try:
            async with asyncio.timeout(None) as self._patience:
                yield
        except TimeoutError:
            if self._verdict is None:
                raise
            raise self._verdict from None
        finally:
            self._patience = None

    def _step_aside(self) -> None:
        self.placed = False
        self._pool.make_room()

    def evict(self, verdict: EngineError) -> None:
        if self._patience is not None and self._verdict is None:
            self._verdict = verdict
            self._patience.reschedule(asyncio.get_running_loop().time())

    def stand_by(self) -> None:
        """Give the place up until the model is loaded: everything is there but that."""
        self._arrived = True
        self._step_aside()

    def join(self, pool: "Pool") -> None:
        """Go on in the pool of the model that the form named; raises where no place is free there."""
        if pool is self._pool:
            return
        if self.placed:
            pool.check()
        self._pool.end(self)
        self._pool = pool
        pool.enter(self)

    async def regain_place(self) -> None:
        await self._pool.turn(self)
        self.placed = True

    async def compute(self, ask: Work, file: BinaryIO) -> AsyncGenerator[Event, None]:
        """As the slot's; with its first step the place goes over to the slot, which is busy from then on."""
        slot = self._pool.free_slot()
        self.placed = False
        async with contextlib.aclosing(slot.compute(ask, file)) as work:
            async for event in work:
                yield event

    async def compute_together(
        self, ask: TextAsk, items: "Sequence[Item]", bound: int | None = None
    ) -> "list[Outcome | None]":
        """In batches with the items of other requests; the place is kept until the end."""
        assert self._pool.batcher is not None  # noqa: S101 - the route is there for handlers that have it
        async with self._evictable():
            return await self._pool.batcher.compute(ask, items, bound)
