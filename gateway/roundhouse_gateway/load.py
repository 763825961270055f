"""What this gateway has in hand of each variant, and who is told of it: requests in flight, held, streams.

`LoadBook` counts; a request stands under one of the three at a time. `LoadReport` is `GET /internal/load`:
everything once, then each change, and a beat every second so that silence means that nothing is known. What
follows from the figures is the operator's business.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import islice
from typing import Final, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from roundhouse_gateway.errors import NotReadyError
from roundhouse_gateway.exchange import EXCHANGE

PATH: Final = "/internal/load"
BEAT_SECONDS: Final = 1.0
COALESCE_SECONDS: Final = 0.1
"""A variant is told of at most ten times a second."""
MOST_LINES: Final = 500
"""That are written in one go."""
SLOW_SECONDS: Final = 5.0
"""A reader that takes nothing for so long is let go: it finds the whole state when it comes again."""
MAX_READERS: Final = 16

Place = tuple[str, str]
"""Namespace and name of a variant."""
Figure = Literal["in_flight", "held", "streams"]


class Counts(msgspec.Struct, rename="camel"):
    """Of one variant. A stream is an answer without a foreseeable end, and no longer counted as in flight."""

    in_flight: int = 0
    held: int = 0
    streams: int = 0


class _Line(msgspec.Struct, rename="camel", tag_field="t", tag="load"):
    namespace: str
    variant: str
    in_flight: int
    held: int
    streams: int


_BEAT: Final = b'{"t":"beat"}\n'
_NOTHING: Final = Counts()


class LoadBook:
    """The counts of all variants that have any, and the readers who are behind.

    Where the gateway has several processes, `workers.book` knows the others: what is asked and then counted
    under `exclusive` is exact over all of them.
    """

    exclusive: AbstractContextManager[object] = nullcontext()

    def __init__(self) -> None:
        self._counts: dict[Place, Counts] = {}
        self._readers: set[Reader] = set()
        self.on_wake: list[Callable[[], None]] = []
        """Called where another process may have left room for those who wait in this one."""

    def of(self, place: Place) -> Counts:
        return self._counts.get(place, _NOTHING)

    def total(self, figure: Figure) -> int:
        return sum(getattr(counts, figure) for counts in self._counts.values())

    def change(self, place: Place, figure: Figure, by: int) -> None:
        counts = self._counts.get(place) or self._counts.setdefault(place, Counts())
        if figure == "in_flight":
            counts.in_flight += by
        else:
            setattr(counts, figure, getattr(counts, figure) + by)
        if not (counts.in_flight or counts.held or counts.streams):
            del self._counts[place]
        for reader in self._readers:
            reader.tell(place)

    def waiting_elsewhere(self, place: Place | None = None) -> int:  # noqa: ARG002 - nobody else
        """How many wait in other processes of this gateway, for the variant or for any."""
        return 0

    def is_own_turn(self, place: Place) -> bool:  # noqa: ARG002 - nobody else
        """Whether nobody in another process comes before those who wait in this one."""
        return True

    def has_turn_elsewhere(self, place: Place) -> bool:  # noqa: ARG002 - nobody else
        """Whether anybody in another process waits for a place and sees where it would be."""
        return False

    def stand(self, place: Place, *, sees: bool) -> None:
        """Whether those who wait here could be called: this process sees the variant run."""

    def wait_in_line(self, place: Place, waiting: int, *, turn: bool = False) -> None:
        """So many wait here now; `turn`: one of them has just been called."""

    def wake(self, place: Place) -> None:
        """Has other processes look whether those who wait there may go."""

    @contextmanager
    def follow(self) -> Iterator["Reader"]:
        """A reader that has everything still to be told. `NotReadyError` where there are too many."""
        if len(self._readers) >= MAX_READERS:
            raise NotReadyError(f"{MAX_READERS} readers follow the load already.")
        reader = Reader(self.of, self._counts)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)


class Reader:
    """What one reader has not been told yet: which variants, never how often they changed."""

    def __init__(self, of: Callable[[Place], Counts], places: Mapping[Place, Counts]) -> None:
        self._of = of
        self._untold = dict.fromkeys(places)
        self._busy: set[Place] = set()
        """Of which it was told last that there is something."""
        self.changed = asyncio.Event()

    @property
    def is_behind(self) -> bool:
        return bool(self._untold)

    def tell(self, place: Place) -> None:
        self._untold[place] = None
        self.changed.set()

    def tell_again(self) -> None:
        """Anything that it was told of may be over."""
        for place in self._busy:
            self.tell(place)

    def lines(self) -> bytes:
        """What is untold, as it is now; of so many variants at most, for others wait meanwhile."""
        places = list(islice(self._untold, MOST_LINES))
        for place in places:
            del self._untold[place]
        if not self._untold:
            self.changed.clear()
        return b"".join(map(self._line, places))

    def _line(self, place: Place) -> bytes:
        counts = self._of(place)
        if counts.in_flight or counts.held or counts.streams:
            self._busy.add(place)
        else:
            self._busy.discard(place)
        return msgspec.json.encode(_Line(*place, counts.in_flight, counts.held, counts.streams)) + b"\n"


class LoadReport:
    """The route, as an ASGI application."""

    def __init__(self, book: LoadBook) -> None:
        self._book = book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[EXCHANGE].route = PATH
        with self._book.follow() as reader:
            leaving = asyncio.create_task(_until_gone(receive))
            try:
                headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                with suppress(TimeoutError):
                    await self._tell(reader, leaving, send)
            finally:
                leaving.cancel()

    async def _tell(self, reader: Reader, leaving: "asyncio.Task[None]", send: Send) -> None:
        loop = asyncio.get_running_loop()
        beat_at = loop.time()
        while not leaving.done():
            lines = reader.lines()
            if loop.time() >= beat_at:
                lines += _BEAT
                beat_at = loop.time() + BEAT_SECONDS
            if lines:
                async with asyncio.timeout(SLOW_SECONDS):
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            await asyncio.sleep(0 if reader.is_behind else COALESCE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.changed.wait(), max(0.0, beat_at - loop.time()))


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
