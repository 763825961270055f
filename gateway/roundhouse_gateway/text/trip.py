"""One request on the fast lane: where it goes, and what it has taken, to be given back at its end."""

from roundhouse_gateway.endpoint_load import Load
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.hold import Hold
from roundhouse_gateway.json_body import JsonBodies
from roundhouse_gateway.limits import KeyLimits
from roundhouse_gateway.load import Figure
from roundhouse_gateway.text.asking import Asking
from roundhouse_gateway.text.connection import Connection
from roundhouse_gateway.text.request import TextRequest
from roundhouse_gateway.text.way import Stop, Way


class Trip:
    """`sent` is the body as the engine gets it."""

    __slots__ = (
        "_bodies",
        "_figure",
        "_hold",
        "_limits",
        "_load",
        "asking",
        "body",
        "connection",
        "exchange",
        "request",
        "sent",
        "stop",
        "way",
    )

    def __init__(  # noqa: PLR0913, PLR0917  # all that a request is, and what is quick to make
        self,
        exchange: Exchange,
        asking: Asking,
        body: bytes,
        way: Way,
        request: TextRequest,
        sent: bytes,
        stop: Stop,
        connection: Connection,
    ) -> None:
        self.exchange = exchange
        self.asking = asking
        self.body = body
        self.way = way
        self.request = request
        self.sent = sent
        self.stop = stop
        self.connection = connection
        self._bodies: JsonBodies | None = None
        self._hold: Hold | None = None
        self._figure: Figure = "in_flight"
        self._limits: KeyLimits | None = None
        self._load: Load | None = None

    def take_room(self, bodies: JsonBodies) -> None:
        """For its body; raises where there is none."""
        bodies.take(len(self.body), self.exchange.key_id)
        self._bodies = bodies

    def take_turn(self, hold: Hold) -> bool:
        """Counts it to its model; False where it would have to wait for that."""
        if not hold.take(self.way.entry):
            return False
        self._hold = hold
        return True

    def streams(self) -> None:
        """From here on the answer has no foreseeable end."""
        if self._hold is not None:
            book, place = self._hold.book, self.way.place
            book.change(place, "streams", 1)
            book.change(place, "in_flight", -1)
            self._figure = "streams"

    def take_place(self, limits: KeyLimits, at_once: int) -> bool:
        """One of those of its key; False where none is free, or that cannot be known at once."""
        if not limits.begin_now(self.exchange.key_id, at_once):
            return False
        self._limits = limits
        return True

    def load(self, load: Load) -> None:
        """Counts it at its endpoint."""
        load.begin(self.stop.base_url)
        self._load = load

    def give_back(self) -> None:
        """All that it has taken."""
        if self._bodies is not None:
            self._bodies.give(len(self.body), self.exchange.key_id)
        if self._limits is not None:
            self._limits.end(self.exchange.key_id)
        if self._load is not None:
            self._load.end(self.stop.base_url)
        if self._hold is not None:
            self._hold.book.change(self.way.place, self._figure, -1)
            self._hold.call(self.way.place)
