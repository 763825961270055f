"""One request on the fast lane: where it goes, what it has taken, and what has come back of its answer."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from roundhouse_api.keys import ApiKey
from roundhouse_gateway.body_room import BodyRoom
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.limits import KeyLimits
from roundhouse_gateway.load import Figure
from roundhouse_gateway.request_ids import new_request_id
from roundhouse_gateway.text.asking import Asking
from roundhouse_gateway.text.connection import Connection, Reply
from roundhouse_gateway.text.way import Fare, Stop
from roundhouse_gateway.tour import Tried

if TYPE_CHECKING:
    from roundhouse_gateway.text.lane import Lane


class Trip(Reply):
    """`sent` is the body as the engine gets it, on the connection `kept`; None: one is to be made.

    `room` is where the client's own is held until the answer is complete: it may have to be sent again.

    It is the reply itself, because each object of a request costs more than what is done with it.
    """

    _figure: Figure = "in_flight"
    _limits: KeyLimits | None = None
    place: Callable[[], None] | None = None
    """Gives back that of its key, once it is for the ordinary routes to do so."""
    tried: Tried | None = None
    """How it failed, where the ordinary routes are to know that."""

    def __init__(  # noqa: PLR0913, PLR0917  # all that a request is
        self,
        lane: "Lane",
        asking: Asking,
        body: bytes,
        fare: Fare,
        sent: bytes,
        stop: Stop,
        kept: Connection | None,
        client: str,
    ) -> None:
        self.parts = []
        self.lane = lane
        self.asking = asking
        self.body = body
        self.fare = fare
        self.way = way = fare.way
        self.sent = sent
        self.room: BodyRoom = lane.bodies
        self.stop = stop
        self.kept = kept
        path = asking.path
        self.exchange = exchange = Exchange(
            "POST", path, asking.request_id or new_request_id(), client, path, way.entry.model.id
        )
        exchange.upload_bytes = len(body)
        key = fare.key
        if key is not None:
            exchange.key_id, exchange.grant = key.id, key.grant

    def set_out(self) -> bool:
        """Takes what it needs, where that is to be had at once; else nothing is taken.

        The count of its key comes last, because it is not given back. Raises where there is no room.
        """
        lane, way, size, key_id = self.lane, self.way, len(self.body), self.exchange.key_id
        limits, key = lane.limits, self.fare.key
        self.room.take(size, key_id)
        placed = False
        try:
            placed = lane.hold.take(way.entry)
        finally:
            if not placed:
                self.room.give(size, key_id)
        if not placed:
            return False
        lane.engines.load.begin(self.stop.base_url)
        way.in_flight.inc()
        counted = False
        try:
            counted = limits is None or key is None or self._count(limits, key)
        finally:
            if not counted:
                self.give_back()
        return counted

    def _count(self, limits: KeyLimits, key: ApiKey) -> bool:
        """False where its key may not, or that cannot be known at once."""
        at_once, per_minute = key.grant.max_concurrent, key.grant.requests_per_minute
        counted = limits.admit_now(key.id, at_once, per_minute)
        if counted is False:
            return False
        if at_once is not None:
            self._limits = limits
        if counted is not True:
            self.exchange.standing = counted
        return True

    def streams(self) -> None:
        """From here on the answer has no foreseeable end."""
        book, place = self.lane.hold.book, self.way.place
        book.change(place, "streams", 1)
        book.change(place, "in_flight", -1)
        self._figure = "streams"

    def hand_over(self) -> None:
        """Gives back all but the place of its key, which nobody is to take in between."""
        limits, self._limits = self._limits, None
        if limits is not None:
            self.place = partial(limits.end, self.exchange.key_id)
        self.give_back()

    def give_back(self) -> None:
        """All that it has taken."""
        lane, way, key_id = self.lane, self.way, self.exchange.key_id
        self.room.give(len(self.body), key_id)
        if self._limits is not None:
            self._limits.end(key_id)
        lane.engines.load.end(self.stop.base_url)
        way.in_flight.inc(-1)
        lane.hold.book.change(way.place, self._figure, -1)
        lane.hold.call(way.place)
