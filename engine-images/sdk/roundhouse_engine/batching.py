"""Puts the texts of several requests into common batches: what comes while one computes goes into the next.

Each request has an equal share of a batch, and a batch is what one call computes: so one of ten thousand
texts, or of long ones, keeps none of a single text waiting for long. Who may wait here `pool` decides, and
how long for others `gathering`.
"""

import asyncio
import contextlib
import heapq
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Final

from roundhouse_engine.errors import EngineError, failed
from roundhouse_engine.events import Done
from roundhouse_engine.gathering import GUESS_SECONDS, Gathering
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.payload import payload
from roundhouse_engine.pool import Pool
from roundhouse_engine.slot import Slot
from roundhouse_engine.text import Text
from roundhouse_engine.text_events import Embedded, Halved, Ranked, Spoiled, TextAsk

logger = logging.getLogger(__name__)

_CHARACTERS_A_TOKEN: Final = 4
"""About: what is exact the model's tokenizer says, in the runner."""
_DOCUMENT_TOKENS: Final = 512
"""Documents may be of any length: what is computed of one is what the model takes beside the query."""

Item = Text | tuple[str, str]
"""A text, or a query and a document."""
Outcome = Embedded | Ranked | Spoiled


@dataclass(eq=False, slots=True)
class Order:
    """A request's items, and what has become of them."""

    ask: TextAsk
    items: Sequence[Item]
    bound: int | None
    """So many numbers a vector, or tokens a document, at most."""
    done: asyncio.Future[None]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    taken: int = 0
    """So many of the items are in a batch, or were."""

    @property
    def over(self) -> bool:
        return self.done.done()

    def settle(self, index: int, outcome: Outcome) -> None:
        """One that is spoiled spoils the whole order, and the rest need not be computed."""
        self.outcomes[index] = outcome
        last = len(self.outcomes) == len(self.items) or isinstance(outcome, Spoiled)
        if last and not self.over:
            self.done.set_result(None)

    def fail(self, error: EngineError) -> None:
        if not self.over:
            self.done.set_exception(error)


@dataclass(eq=False, slots=True)
class Batch:
    """Items of requests for the same work on the same model, each with its place in its order."""

    ask: TextAsk
    entries: list[tuple[Order, int]]
    task: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """False where it computes what nobody waits for; one that has told everything is about to end."""
        waited_for = any(not order.over for order, _ in self.entries)
        return waited_for or all(index in order.outcomes for order, index in self.entries)

    def fail(self, error: EngineError) -> None:
        for order, _ in self.entries:
            order.fail(error)


class Batcher:
    """Of one pool. A batch holds so many texts, of about so many tokens in all."""

    def __init__(self, pool: Pool, items: int, tokens: int, metrics: Metrics) -> None:
        self._pool = pool
        self._items = items
        self._tokens = tokens
        self._metrics = metrics
        self._waiting: deque[Order] = deque()
        self._batches: set[Batch] = set()
        self._taken: set[Slot] = set()
        self._handing_out: asyncio.Task[None] | None = None
        self._gathering = Gathering()
        self._seconds = GUESS_SECONDS
        """What the last batch took."""

    @property
    def waiting(self) -> int:
        """Requests of which nothing is in a batch yet."""
        return sum(not order.taken and not order.over for order in self._waiting)

    async def compute(
        self, ask: TextAsk, items: Sequence[Item], bound: int | None = None
    ) -> list[Outcome | None]:
        """What becomes of each item, in order; raises `EngineError` where the whole request fails.

        None are those that were not computed, because another was spoiled.
        """
        order = Order(ask, items, bound, asyncio.get_running_loop().create_future())
        self._waiting.append(order)
        self._gathering.came()
        if self._handing_out is None or self._handing_out.done():
            self._handing_out = asyncio.create_task(self._hand_out())
        try:
            await order.done
        finally:
            order.done.cancel()  # where the client left: what is not begun is forgotten
            with contextlib.suppress(ValueError):
                self._waiting.remove(order)
            if not self._waiting and self._handing_out is not None:
                self._handing_out.cancel()  # it waits for a slot, which may never come, for nobody
                self._handing_out = None
            for batch in self._batches:
                if not batch.wanted and batch.task is not None:
                    batch.task.cancel()
        return [order.outcomes.get(index) for index in range(len(items))]

    async def _hand_out(self) -> None:
        while self._waiting:
            await self._pool.idle_slot(self._taken)
            await self._gathering.complete(self._seconds, self._full)
            slot = await self._pool.idle_slot(self._taken)  # which may have died meanwhile
            self._waiting = deque(order for order in self._waiting if not order.over)
            if self._waiting:
                batch = self._collect()
                self._taken.add(slot)
                self._batches.add(batch)
                batch.task = asyncio.create_task(self._compute(slot, batch))
                # Not in the task itself: one that is cancelled before its first step never runs.
                batch.task.add_done_callback(partial(self._give_back, slot, batch))

    def _give_back(self, slot: Slot, batch: Batch, _: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._taken.discard(slot)
        self._pool.note()

    def _full(self) -> bool:
        """Whether as much waits as one batch holds, or nothing any more."""
        items = tokens = 0
        for order in self._waiting:
            for item in order.items[order.taken : order.taken + self._items]:
                items, tokens = items + 1, tokens + _tokens(item)
                if items >= self._items or tokens >= self._tokens:
                    return True
        return not items

    def _collect(self) -> Batch:
        """The next batch: of the kind of whoever waits longest; who has least in it puts the next item in."""
        ask = self._waiting[0].ask
        shares = [(0, place, order) for place, order in enumerate(self._waiting) if order.ask == ask]
        entries: list[tuple[Order, int]] = []
        room = self._tokens
        while shares and len(entries) < self._items:
            share, place, order = shares[0]
            tokens = _tokens(order.items[order.taken])
            if entries and tokens > room:
                heapq.heappop(shares)
                continue
            entries.append((order, order.taken))
            order.taken += 1
            room -= tokens
            if order.taken < len(order.items):
                heapq.heapreplace(shares, (share + tokens, place, order))
            else:
                heapq.heappop(shares)
        # Whoever wants more comes after those who want something else, or for whom there was no room.
        served = {order for order, _ in entries}
        more = [order for order in self._waiting if order in served and order.taken < len(order.items)]
        self._waiting = deque([*(order for order in self._waiting if order not in served), *more])
        return Batch(ask, entries)

    async def _compute(self, slot: Slot, batch: Batch) -> None:
        model = batch.ask.model
        self._metrics.batches.labels(model).inc()
        self._metrics.batch_items.labels(model).observe(len(batch.entries))
        try:
            with await _payload(batch) as file:
                async with contextlib.aclosing(slot.compute(batch.ask, file)) as events:
                    async for event in events:
                        if isinstance(event, Embedded | Ranked | Spoiled):
                            order, index = batch.entries[event.index]
                            order.settle(index, event)
                            if not isinstance(event, Spoiled):
                                self._metrics.tokens.labels(model, "input").inc(event.tokens)
                        elif isinstance(event, Halved):
                            self._metrics.batches_halved.labels(model).inc()
                        elif isinstance(event, Done):
                            self._seconds = event.compute_seconds
                            self._metrics.compute_seconds.labels(model).inc(event.compute_seconds)
        except EngineError as error:
            batch.fail(error)
        except Exception:  # no descriptor is left, or no memory: whoever waits must hear of it
            logger.exception("batch could not begin", extra={"model": model})
            batch.fail(failed("The engine could not begin the work. Send the request again."))


async def _payload(batch: Batch) -> BinaryIO:
    items = [order.items[index] for order, index in batch.entries]
    return await payload({"items": items, "bounds": [order.bound for order, _ in batch.entries]})


def _tokens(item: Item) -> int:
    """About how many of it are computed."""
    match item:
        case str():
            return len(item) // _CHARACTERS_A_TOKEN + 1
        case (str() as query, str() as document):
            return min((len(query) + len(document)) // _CHARACTERS_A_TOKEN + 1, _DOCUMENT_TOKENS)
        case _:
            return len(item)
