"""Requests that wait for a model: under `scaling.mode: Demand` a cold start is worth waiting for.

`Hold.admit` lets a request through at once where its model runs. Where that sleeps, or has every place taken,
and none of its fallbacks can answer, the request waits in line: bounded in number and time, its upload left
in the socket. Waiting is what wakes the model, because the operator reads of it in `load`. Which models may
be waited for is decided in `sleepers`, whose turn it is in `line`, and who stands in for whom in `fallbacks`.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from roundhouse_api.enums import FallbackTrigger
from roundhouse_gateway.admitted import Admitted, Call, Choose, Client, Waiting
from roundhouse_gateway.errors import (
    ClientGoneError,
    GatewayError,
    NoEngineError,
    NotRunningError,
)
from roundhouse_gateway.fallbacks import permitted
from roundhouse_gateway.hold_errors import BusyTooLongError, HeldTooLongError, HoldFullError
from roundhouse_gateway.key_errors import ModelNotAllowedError
from roundhouse_gateway.line import Limits, Line, who_makes_room
from roundhouse_gateway.load import LoadBook, Place
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.nudges import Nudges
from roundhouse_gateway.pace import Paces, retry_after
from roundhouse_gateway.registry import Registry
from roundhouse_gateway.sleepers import Wish, has_room, running, sleeper
from roundhouse_gateway.snapshot import Entry, Snapshot

__all__ = ["Admitted", "Client", "Hold", "Limits"]

_ASLEEP: Final = (NotRunningError, NoEngineError, ModelNotAllowedError)
"""What a choice says where nothing runs that the request may use."""
FULL_SECONDS: Final = 0.5
"""How long an engine is left alone that was full, though by this gateway's count it had room."""


class Hold:
    """All lines of this gateway."""

    def __init__(self, registry: Registry, book: LoadBook, limits: Limits, metrics: Metrics) -> None:
        self.book = book
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._lines: dict[Place, Line[Waiting]] = {}
        self._paces = Paces()
        self._nudges = Nudges(book)
        registry.on_rebuild.append(self._call_all)
        book.on_wake.append(self._call_all)

    @property
    def snapshot(self) -> Snapshot:
        return self._registry.snapshot

    async def admit(self, wish: Wish, choose: Choose, client: Client) -> Admitted:
        """What `choose` gives, now or after a wait; its error where waiting is not to be had."""
        try:
            entries = choose()
        except _ASLEEP as refusal:
            entry = sleeper(self.snapshot, wish)
            if entry is None:
                raise
            if not entry.max_hold_seconds:
                self._nudges.tell(entry.place)
                self._tell_when(refusal, entry)
                raise
            self._paces.of(entry.place).asleep(self._now)
            one = Waiting(wish, choose, refusal)
        else:
            one = Waiting(wish, choose, HoldFullError(entries[0].model.id))
            with self.book.exclusive:
                free = self._free(wish, entries)
                if free:
                    return self._let_through(free, one)
            entry = entries[0]
            if not entry.max_hold_seconds:
                self._nudges.tell(entry.place)
                return self._let_through(entries, one)  # the engine itself says that it is full
        with self.book.exclusive:
            self._make_room(entry, one)
            one.until = self._now + entry.max_hold_seconds
            line = self._lines.setdefault(entry.place, Line())
            line.join(one)
            self.book.wait_in_line(entry.place, len(line))
        return Admitted(self, one, *await self._wait(entry, one, client))

    async def wait_again(self, entry: Entry, one: Waiting, client: Client) -> Call:
        """For a request that was called, and refused by an engine that is full."""
        loop = asyncio.get_running_loop()
        one.turn = loop.create_future()
        line = self._lines.setdefault(entry.place, Line())
        line.rejoin(one)
        self.book.wait_in_line(entry.place, len(line))
        line.closed_until = loop.time() + FULL_SECONDS
        loop.call_later(FULL_SECONDS, self.call, entry.place)
        return await self._wait(entry, one, client)

    def call(self, place: Place) -> None:
        """Lets through whoever may go, in the order of the line."""
        line = self._lines.get(place)
        if line is None:
            return
        with self.book.exclusive:
            if self._call(place, line):
                self.book.wake(place)

    def _call(self, place: Place, line: Line[Waiting]) -> bool:
        """Whether anybody was let through."""
        full, went = self._now < line.closed_until, False
        seen = [(one, running(self.snapshot, one.wish)) for one in line.in_order()]
        self.book.stand(place, sees=any(entry for _, entry in seen))
        for one, entry in seen:
            if entry is None:
                if sleeper(self.snapshot, one.wish, waiting=True) is None:
                    one.turn.set_exception(one.refusal_now())
                    self.book.wait_in_line(place, len(line))
            elif entry.place != place or not (full := full or not self._may_call(entry)):
                self.book.change(entry.place, "in_flight", 1)
                one.turn.set_result(entry.place)
                line.had_its_turn(one.key)
                self.book.wait_in_line(place, len(line), turn=True)
                went = True
                pace = self._paces.of(place)
                pace.awake(self._now)
                pace.turn(self._now, others_wait=len(line) > 0)
        return went

    def _may_call(self, entry: Entry) -> bool:
        return self.book.is_own_turn(entry.place) and has_room(entry, self.book.of(entry.place))

    def _call_all(self) -> None:
        for place in list(self._lines):
            self.call(place)

    def _is_free(self, entry: Entry) -> bool:
        """Nobody is before, and there is room."""
        place = entry.place
        is_first = place not in self._lines and not self.book.has_turn_elsewhere(place)
        return is_first and has_room(entry, self.book.of(place))

    def take(self, entry: Entry) -> bool:
        """Counts a request in flight to a model that runs, if it is let through at once."""
        if not entry.may_be_waited_for:
            self.book.change(entry.place, "in_flight", 1)
            return True
        with self.book.exclusive:
            free = self._is_free(entry)
            if free:
                self.book.change(entry.place, "in_flight", 1)
            return free

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _free(self, wish: Wish, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those to ask without a wait, the best first; none where the best is worth a wait and full."""
        first = entries[0]
        if self._is_free(first):
            self._wake_asked(wish, first)
            return entries
        if wish.auto:
            return self._free_for_auto(entries)
        spare = [each for each in entries[1:] if self._may_stand_in(wish, each)]
        if spare:
            self._nudges.tell(first.place)
        return spare or (() if first.may_be_waited_for else entries)

    def _free_for_auto(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """`auto` goes where nobody is before it, else waits with those who named the best."""
        if any(map(self._is_free, entries)):
            return sorted(entries, key=lambda entry: not self._is_free(entry))
        if entries[0].may_be_waited_for:
            return ()
        return [entry for entry in entries if entry.place not in self._lines]

    def _wake_asked(self, wish: Wish, first: Entry) -> None:
        """That another answers in its place is no reason to let a model sleep."""
        if not wish.auto and wish.name not in first.model.names:
            asked = sleeper(self.snapshot, wish)
            if asked is not None:
                self._nudges.tell(asked.place)

    def _may_stand_in(self, wish: Wish, entry: Entry) -> bool:
        return has_room(entry, self.book.of(entry.place)) and permitted(
            self.snapshot, wish.name, entry, FallbackTrigger.RATE_LIMITED
        )

    def _let_through(self, entries: Sequence[Entry], one: Waiting) -> Admitted:
        self.book.change(entries[0].place, "in_flight", 1)
        if entries[0].may_be_waited_for:
            one.until = asyncio.get_running_loop().time() + entries[0].max_hold_seconds
        return Admitted(self, one, entries, entries[0].place)

    def _make_room(self, entry: Entry, one: Waiting) -> None:
        """A place for one more: a free one, or that of a key with more than its share. `HoldFullError`."""
        line = self._lines.get(entry.place, Line())
        in_all = sum(map(len, self._lines.values())) + self.book.waiting_elsewhere()
        if len(line) + self.book.waiting_elsewhere(entry.place) >= self._limits.per_variant:
            lines = [line]
        elif in_all >= self._limits.in_all:
            lines = list(self._lines.values())
        else:
            return
        of_own = sum(len(each.of_key(one.key)) for each in lines)
        error = HoldFullError(entry.model.id)
        self._tell_when(error, entry)
        leaves = who_makes_room(lines, one.key, of_own)
        if leaves is None:
            self._nudges.tell(entry.place)
            raise error
        leaves.turn.set_exception(error)

    def _tell_when(self, error: GatewayError, entry: Entry) -> None:
        """Puts into the error when it is worth the client's while to ask again: what was asked for wakes."""
        error.retry_is_useless = False
        waiting = len(self._lines.get(entry.place, ()))
        served = self._paces.of(entry.place).seconds_until_served(self._now, waiting)
        error.retry_after = retry_after(served, entry.record.remaining_seconds)

    async def _wait(self, entry: Entry, one: Waiting, client: Client) -> Call:
        """In line by now, and no more when this returns."""
        loop = asyncio.get_running_loop()
        began, outcome = loop.time(), "left"
        held = self._metrics.held(entry.model.id)  # the one to be lowered, even if it has been let go by then
        held.inc()
        self.book.change(entry.place, "held", 1)
        try:
            while True:
                place = await self._called(one, client)
                try:
                    entries = one.choose()
                except BaseException as unheard:
                    self._give_back(one)
                    if not isinstance(unheard, _ASLEEP):
                        raise  # only what runs shows that it cannot do what the request asks for
                    # The endpoint went again between the call and its hearing.
                    one.turn = loop.create_future()
                else:
                    outcome = "admitted"
                    return entries, place
        except TimeoutError:
            outcome = "timeout"
            raise self._too_long(entry, one) from None
        except GatewayError:
            outcome = "refused"
            raise
        finally:
            self._part(entry.place, one)
            held.inc(-1)
            self.book.change(entry.place, "held", -1)
            self._metrics.hold_seconds(entry.model.id, outcome).observe(loop.time() - began)

    def _too_long(self, entry: Entry, one: Waiting) -> GatewayError:
        """By what is so now: it may have begun to wait for a start, and waits for a place since."""
        is_busy = running(self.snapshot, one.wish) is not None and not one.called
        error = (BusyTooLongError if is_busy else HeldTooLongError)(entry.model.id, entry.max_hold_seconds)
        self._tell_when(error, entry)
        return error

    async def _called(self, one: Waiting, client: Client) -> Place:
        """Where to, once it is called; `TimeoutError` or `ClientGoneError` where it waits no longer."""
        leaving = asyncio.ensure_future(client.until_gone())
        try:
            try:
                async with asyncio.timeout_at(one.until):
                    await asyncio.wait((one.turn, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                await asyncio.wait((leaving,))
        except BaseException:
            self._give_back(one)  # after the last wait: it may have been called during that
            raise
        if one.turn.done():
            return one.turn.result()
        leaving.result()
        raise ClientGoneError

    def _give_back(self, one: Waiting) -> None:
        """It was called and is not going to come."""
        if one.turn.done() and not one.turn.exception():
            self.book.change(one.turn.result(), "in_flight", -1)
            self.call(one.turn.result())

    def _part(self, place: Place, one: Waiting) -> None:
        line = self._lines[place]
        line.leave(one)
        self.book.wait_in_line(place, len(line))
        self.book.wake(place)
        if not line:
            del self._lines[place]
            self._paces.of(place).nobody_waits()
