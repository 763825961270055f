"""Requests that wait for a model: under `scaling.mode: Demand` a cold start is worth waiting for.

`Hold.admit` lets a request through at once where its model runs. Where that sleeps, or has every place taken,
the request waits in line: bounded in number and time, first come first served, its upload left in the socket.
Waiting is what wakes the model, because the operator reads of it in `load`. Which models may be waited for is
decided in `sleepers`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from roundhouse_gateway.errors import (
    ClientGoneError,
    GatewayError,
    HeldTooLongError,
    HoldFullError,
    NoEngineError,
    NotRunningError,
)
from roundhouse_gateway.key_errors import ModelNotAllowedError
from roundhouse_gateway.load import LoadBook, Place
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.sleepers import Wish, has_room, running, sleeper
from roundhouse_gateway.snapshot import Entry

NUDGE_SECONDS: Final = 2.0
"""For how long a request that may not wait is told of as one that does, so that it wakes its model too."""

_ASLEEP: Final = (NotRunningError, NoEngineError, ModelNotAllowedError)
"""What a choice says where nothing runs that the request may use."""
FULL_SECONDS: Final = 0.5
"""How long an engine is left alone that was full, though by this gateway's count it had room."""

Choose = Callable[[], Sequence[Entry]]
Call = tuple[Sequence[Entry], Place]
"""Who would answer, and the variant that the request is counted to meanwhile."""


class Client(Protocol):
    """The other side of a request."""

    async def until_gone(self) -> None:
        """Returns when the client has left, as far as that can be seen without reading its whole upload."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many may wait, in this gateway."""

    in_all: int
    per_variant: int


@dataclass(eq=False, slots=True)
class _Waiting:
    """`until` is when it gives up, `turn` the variant that it is called to."""

    wish: Wish
    choose: Choose
    refusal: GatewayError
    until: float = 0.0
    turn: "asyncio.Future[Place]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Line:
    """Those who wait for one variant. `closed_until`: its engine said a moment ago that it is full."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    closed_until: float = 0.0


class Admitted:
    """A request that was let through. It counts to the variant that answers it, until it is over."""

    def __init__(self, hold: "Hold", one: _Waiting, entries: Sequence[Entry], place: Place) -> None:
        self._hold = hold
        self._one = one
        self._place: Place | None = place
        self._streaming = False
        self.entries = entries

    @property
    def may_wait(self) -> bool:
        """Whether an engine that is full is a reason to wait once more."""
        return not self._one.wish.auto and self._one.until > asyncio.get_running_loop().time()

    async def wait(self, client: Client) -> None:
        """Waits once more, before all others, because the engine turned out to be full."""
        entry = self.entries[0]
        self._leave()
        self.entries, self._place = await self._hold.wait_again(entry, self._one, client)

    def goes_to(self, entry: Entry) -> None:
        if self._place != entry.place:
            self._leave()
            self._hold.book.change(entry.place, "in_flight", 1)
            self._place = entry.place

    def streams(self) -> None:
        """From here on the answer has no foreseeable end."""
        if self._place and not self._streaming:
            self._hold.book.change(self._place, "in_flight", -1)
            self._hold.book.change(self._place, "streams", 1)
            self._streaming = True

    def _leave(self) -> None:
        if self._place:
            self._hold.book.change(self._place, "streams" if self._streaming else "in_flight", -1)
            self._hold.call(self._place)
        self._place, self._streaming = None, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()


class Hold:
    """All lines of this gateway."""

    def __init__(self, registry: Registry, book: LoadBook, limits: Limits, metrics: Metrics) -> None:
        self.book = book
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._held = 0
        self._lines: dict[Place, _Line] = {}
        self._nudged: dict[Place, asyncio.TimerHandle] = {}
        registry.on_rebuild.append(self._call_all)

    async def admit(self, wish: Wish, choose: Choose, client: Client) -> Admitted:
        """What `choose` gives, now or after a wait; its error where waiting is not to be had."""
        try:
            entries = choose()
        except _ASLEEP as refusal:
            entry = sleeper(self._registry.snapshot, wish)
            if entry is None:
                raise
            if not entry.max_hold_seconds:
                self._nudge(entry.place)
                raise
            one = _Waiting(wish, choose, refusal)
        else:
            entry = entries[0]
            one = _Waiting(wish, choose, HoldFullError(entry.model.id))
            if wish.auto or not entry.may_be_waited_for or self._is_free(entry):
                return self._let_through(entries, one)
            if not entry.max_hold_seconds:
                self._nudge(entry.place)
                return self._let_through(entries, one)  # the engine itself says that it is full
        self._check_limits(entry)
        one.until = asyncio.get_running_loop().time() + entry.max_hold_seconds
        self._lines.setdefault(entry.place, _Line()).waiting.append(one)
        return Admitted(self, one, *await self._wait(entry, one, client))

    async def wait_again(self, entry: Entry, one: _Waiting, client: Client) -> Call:
        """For a request that was called, and refused by an engine that is full."""
        loop = asyncio.get_running_loop()
        one.turn = loop.create_future()
        line = self._lines.setdefault(entry.place, _Line())
        line.waiting.appendleft(one)
        line.closed_until = loop.time() + FULL_SECONDS
        loop.call_later(FULL_SECONDS, self.call, entry.place)
        return await self._wait(entry, one, client)

    def call(self, place: Place) -> None:
        """Lets through whoever may go, the first in line first."""
        line = self._lines.get(place)
        if line is None:
            return
        snapshot, full = self._registry.snapshot, asyncio.get_running_loop().time() < line.closed_until
        for one in [each for each in line.waiting if not each.turn.done()]:
            entry = running(snapshot, one.wish)
            if entry is None:
                if sleeper(snapshot, one.wish, waiting=True) is None:
                    one.turn.set_exception(one.refusal)
            elif one.wish.auto or not (full := full or not has_room(entry, self.book.of(entry.place))):
                self.book.change(entry.place, "in_flight", 1)
                one.turn.set_result(entry.place)

    def _call_all(self) -> None:
        for place in list(self._lines):
            self.call(place)

    def is_free(self, entry: Entry) -> bool:
        """Whether a request for the model, which runs, would be let through at once."""
        return not entry.may_be_waited_for or self._is_free(entry)

    def _is_free(self, entry: Entry) -> bool:
        """Nobody is before, and there is room."""
        return entry.place not in self._lines and has_room(entry, self.book.of(entry.place))

    def _let_through(self, entries: Sequence[Entry], one: _Waiting) -> Admitted:
        self.book.change(entries[0].place, "in_flight", 1)
        if entries[0].may_be_waited_for:
            one.until = asyncio.get_running_loop().time() + entries[0].max_hold_seconds
        return Admitted(self, one, entries, entries[0].place)

    def _check_limits(self, entry: Entry) -> None:
        line = self._lines.get(entry.place)
        if self._held >= self._limits.in_all or (line and len(line.waiting) >= self._limits.per_variant):
            self._nudge(entry.place)
            raise HoldFullError(entry.model.id)

    async def _wait(self, entry: Entry, one: _Waiting, client: Client) -> Call:
        """In line by now, and no more when this returns."""
        loop = asyncio.get_running_loop()
        began, outcome = loop.time(), "left"
        self._count(entry, 1)
        try:
            while True:
                place = await self._called(one, client)
                try:
                    entries = one.choose()
                except _ASLEEP:
                    # The endpoint went again between the call and its hearing.
                    self.book.change(place, "in_flight", -1)
                    one.turn = loop.create_future()
                else:
                    outcome = "admitted"
                    return entries, place
        except TimeoutError:
            outcome = "timeout"
            if isinstance(one.refusal, HoldFullError):
                raise one.refusal from None
            raise HeldTooLongError(entry.model.id, entry.max_hold_seconds) from None
        except GatewayError:
            outcome = "refused"
            raise
        finally:
            self._part(entry.place, one)
            self._count(entry, -1)
            self._metrics.hold_seconds(entry.model.id, outcome).observe(loop.time() - began)

    async def _called(self, one: _Waiting, client: Client) -> Place:
        """Where to, once it is called; `TimeoutError` or `ClientGoneError` where it waits no longer."""
        leaving = asyncio.ensure_future(client.until_gone())
        try:
            async with asyncio.timeout_at(one.until):
                await asyncio.wait((one.turn, leaving), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._give_back(one)
            raise
        finally:
            leaving.cancel()
            await asyncio.wait((leaving,))
        if one.turn.done():
            return one.turn.result()
        leaving.result()
        raise ClientGoneError

    def _give_back(self, one: _Waiting) -> None:
        """It was called and is not going to come."""
        if one.turn.done() and not one.turn.exception():
            self.book.change(one.turn.result(), "in_flight", -1)
            self.call(one.turn.result())

    def _count(self, entry: Entry, by: int) -> None:
        self._held += by
        self._metrics.held(entry.model.id).inc(by)
        self.book.change(entry.place, "held", by)

    def _part(self, place: Place, one: _Waiting) -> None:
        line = self._lines[place]
        line.waiting.remove(one)
        if not line.waiting:
            del self._lines[place]

    def _nudge(self, place: Place) -> None:
        """Tells of a request that does not wait for long enough to be heard."""
        if place not in self._nudged:
            self.book.change(place, "held", 1)
            self._nudged[place] = asyncio.get_running_loop().call_later(NUDGE_SECONDS, self._unnudge, place)

    def _unnudge(self, place: Place) -> None:
        del self._nudged[place]
        self.book.change(place, "held", -1)
