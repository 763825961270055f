"""A request that may go on: whom it asks, in which order, and to whom it is counted meanwhile."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from roundhouse_api.enums import FallbackTrigger
from roundhouse_gateway.errors import GatewayError
from roundhouse_gateway.fallbacks import OF_AUTO, permitted, trigger_of
from roundhouse_gateway.load import LoadBook, Place
from roundhouse_gateway.sleepers import Wish
from roundhouse_gateway.snapshot import Entry, Snapshot

Choose = Callable[[], Sequence[Entry]]
Call = tuple[Sequence[Entry], Place]
"""Who would answer, and the variant that the request is counted to meanwhile."""


class Client(Protocol):
    """The other side of a request."""

    async def until_gone(self) -> None:
        """Returns when the client has left, as far as that can be seen without reading its whole upload."""


@dataclass(eq=False, slots=True)
class Waiting:
    """`until` is when it gives up, `turn` the variant that it is called to."""

    wish: Wish
    choose: Choose
    refusal: GatewayError
    until: float = 0.0
    turn: "asyncio.Future[Place]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> str:
        return self.wish.key

    @property
    def called(self) -> bool:
        return self.turn.done()

    def refusal_now(self) -> GatewayError:
        """Why it may not wait any longer, which may be another reason than that for which it waited."""
        try:
            self.choose()
        except GatewayError as refusal:
            return refusal
        return self.refusal


class Holder(Protocol):
    """Where it came from."""

    book: LoadBook

    @property
    def snapshot(self) -> Snapshot: ...

    def call(self, place: Place) -> None: ...

    async def wait_again(self, entry: Entry, one: Waiting, client: Client) -> Call: ...


class Admitted:
    """A request that was let through. It counts to the variant that answers it, until it is over."""

    def __init__(self, hold: Holder, one: Waiting, entries: Sequence[Entry], place: Place) -> None:
        self._hold = hold
        self._one = one
        self._place: Place | None = place
        self._streaming = False
        self.entries = entries
        self.first_failure: tuple[Entry, GatewayError] | None = None
        """What a client is told that asked for a model by name, where nobody answers in its place."""

    @property
    def auto(self) -> bool:
        return self._one.wish.auto

    @property
    def may_wait(self) -> bool:
        """Whether an engine that is full is a reason to wait once more."""
        return self._one.until > asyncio.get_running_loop().time()

    async def wait(self, client: Client) -> None:
        """Waits once more, before all others, because the engine turned out to be full."""
        entry = self.entries[0]
        self.leave()
        self.entries, self._place = await self._hold.wait_again(entry, self._one, client)

    def after(self, entry: Entry, trouble: GatewayError | FallbackTrigger) -> Entry | None:
        """Whom to ask after `entry`, which failed so, as long as the request can be sent again."""
        trigger = trouble if isinstance(trouble, FallbackTrigger) else trigger_of(trouble)
        if trigger is None:
            return None
        behind = self.entries[self.entries.index(entry) + 1 :]
        if self.auto:
            return behind[0] if behind and trigger in OF_AUTO else None
        snapshot, name = self._hold.snapshot, self._one.wish.name
        return next((each for each in behind if permitted(snapshot, name, each, trigger)), None)

    def attempts(self) -> Iterator["Attempt"]:
        """One after another, for as long as each is told how it failed. What is in hand is counted along."""
        entry: Entry | None = self.entries[0]
        while entry is not None:
            self.goes_to(entry)
            attempt = Attempt(self, entry)
            yield attempt
            entry = attempt.following

    def goes_to(self, entry: Entry) -> None:
        if self._place != entry.place:
            self.leave()
            self._hold.book.change(entry.place, "in_flight", 1)
            self._place = entry.place

    def streams(self) -> None:
        """From here on the answer has no foreseeable end."""
        if self._place and not self._streaming:
            # In this order: nobody is to see room in between.
            self._hold.book.change(self._place, "streams", 1)
            self._hold.book.change(self._place, "in_flight", -1)
            self._streaming = True

    def leave(self) -> None:
        """It is over, or goes elsewhere."""
        if self._place:
            self._hold.book.change(self._place, "streams" if self._streaming else "in_flight", -1)
            self._hold.call(self._place)
        self._place, self._streaming = None, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Attempt:
    """One entry that is asked. It is the last unless `goes_on` has found another."""

    def __init__(self, admitted: Admitted, entry: Entry) -> None:
        self._admitted = admitted
        self.entry = entry
        self.following: Entry | None = None

    @property
    def last(self) -> bool:
        """Nobody is to be asked if this one cannot be reached."""
        return self._admitted.after(self.entry, FallbackTrigger.UNAVAILABLE) is None

    def goes_on(self, trouble: GatewayError | FallbackTrigger) -> bool:
        """Whether another is asked next. Only of use while the request can be sent again."""
        admitted = self._admitted
        self.following = admitted.after(self.entry, trouble)
        if isinstance(trouble, GatewayError) and not admitted.auto and admitted.first_failure is None:
            admitted.first_failure = self.entry, trouble
        return self.following is not None
