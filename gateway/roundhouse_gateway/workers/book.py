"""The load of all workers as one: what each has in hand of a variant, and whose turn it is where they wait.

Whether an engine has room for one more is asked and answered under a lock, so two workers never take the same
place. Those who wait do so in the worker that has their connection; workers take turns as keys do within
each: a place that is free goes to the one that has waited longest since it last had one. Who frees a place
wakes the others that wait.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from typing_extensions import override

from roundhouse_gateway.load import Counts, Figure, LoadBook, Place, Reader
from roundhouse_gateway.workers.arena import Arena, ArenaFullError, Row, Seen
from roundhouse_gateway.workers.lock import Lock

_MARK: Final = "load "
_ALL: Final = "waiting"
"""A row in each arena."""
_AT: Final[dict[Figure, int]] = {"in_flight": 0, "held": 1, "streams": 2}
_WAITING, _SINCE, _SIZE = 3, 4, 5


def waiting_row(arena: Arena) -> Row:
    """Of how many wait in a worker in all: there from the beginning, as others look at it again and again."""
    return arena.row(_ALL, 1, lasts=False)


class _Sibling:
    """The load of another worker, as it has it in its arena."""

    def __init__(self, number: int, arena: Arena) -> None:
        self.number = number
        self.arena = arena
        self.seen = Seen()
        self._loads: list[tuple[int, Place]] = []
        self._read_to = 0

    def busy(self) -> Iterator[Place]:
        """Of which variants it has anything in hand."""
        rows = self.arena.rows()
        for row in rows[self._read_to :]:
            place = _place_of(row)
            if place is not None:
                self._loads.append((row.at, place))
        self._read_to = len(rows)
        cells = self.arena.cells
        return (place for at, place in self._loads if cells[at] or cells[at + 1] or cells[at + 2])


class SharedBook(LoadBook):
    """As worker `own` keeps it. `wake` has a worker look whether those who wait there may go."""

    def __init__(
        self,
        arenas: Sequence[Arena],
        own: int,
        lock: Lock,
        wake: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.exclusive = lock
        self._number = own
        self._arena = arenas[own]
        self._arena.take_over()
        self._siblings = [_Sibling(place, each) for place, each in enumerate(arenas) if place != own]
        self._wake = wake
        self._clock = clock
        self.hears: Callable[[int], bool] = lambda _: True
        """Whether a worker is heard of: one that hangs takes no turn, and keeps nobody waiting for it."""
        self._names: dict[Place, str] = {}
        self._places: dict[Place, int] = {}
        self._arenas = arenas
        self._cells = self._arena.cells
        in_all = [(number, arena, waiting_row(arena)) for number, arena in enumerate(arenas)]
        self._all = in_all[own][2].at
        self._waiting = [(number, arena.cells, row.at) for number, arena, row in in_all if number != own]

    @override
    def of(self, place: Place) -> Counts:
        own = super().of(place)
        in_flight, held, streams = own.in_flight, own.held, own.streams
        for cells, at in self._elsewhere(place):
            in_flight += int(cells[at])
            held += int(cells[at + 1])
            streams += int(cells[at + 2])
        return Counts(in_flight, held, streams)

    @override
    def change(self, place: Place, figure: Figure, by: int) -> None:
        super().change(place, figure, by)
        at = self._places.get(place) or self._own(place)
        if at:
            self._cells[at + _AT[figure]] += by
            self._arena.changed(at)
        if by < 0 and figure != "held":
            self.wake(place)

    @override
    def waiting_elsewhere(self, place: Place | None = None) -> int:
        if place is not None:
            return sum(int(cells[at + _WAITING]) for cells, at in self._elsewhere(place))
        return sum(int(cells[at]) for _, cells, at in self._waiting)

    @override
    def is_own_turn(self, place: Place) -> bool:
        at = self._own(place)
        mine = self._arena.cells[at + _SINCE] if at else 0.0
        return all(not 0 < since < mine for since in self._turns(place))

    @override
    def has_turn_elsewhere(self, place: Place) -> bool:
        return any(self._turns(place))

    def _turns(self, place: Place) -> Iterator[float]:
        """Since when others wait for theirs."""
        name = self._name(place)
        for each in self._siblings:
            row = each.arena.find(name)
            if row is not None and (since := each.arena.cells[row.at + _SINCE]) and self.hears(each.number):
                yield since

    @override
    def stand(self, place: Place, *, sees: bool) -> None:
        """A worker that has not heard yet that the variant runs would have a turn that it cannot use."""
        at, cells = self._own(place), self._arena.cells
        if not at:
            return
        if not sees and cells[at + _SINCE]:
            cells[at + _SINCE] = 0
            self.wake(place)
        elif sees and cells[at + _WAITING] and not cells[at + _SINCE]:
            cells[at + _SINCE] = self._clock()

    @override
    def wait_in_line(self, place: Place, waiting: int, *, turn: bool = False) -> None:
        at, cells = self._own(place), self._arena.cells
        if not at:
            return
        if waiting > cells[at + _WAITING]:  # a place may have been freed while it was on its way here
            self._wake(self._number)
        is_first = not cells[at + _WAITING]
        cells[self._all] += waiting - cells[at + _WAITING]
        cells[at + _WAITING] = waiting
        if not waiting:
            cells[at + _SINCE] = 0
        elif turn or is_first:
            cells[at + _SINCE] = self._clock()

    @override
    def wake(self, place: Place) -> None:
        for number, cells, at in self._waiting:
            if cells[at] and self._waits_in(number, place):
                self._wake(number)

    def _waits_in(self, number: int, place: Place) -> bool:
        arena = self._arenas[number]
        row = arena.find(self._name(place))
        return row is not None and arena.cells[row.at + _WAITING] > 0

    @override
    @contextmanager
    def follow(self) -> Iterator[Reader]:
        with super().follow() as reader:
            for each in self._siblings:
                _tell_all(reader, each.busy())
            yield reader

    def called(self) -> None:
        """A place may have been freed in another worker."""
        for tell in self.on_wake:
            tell()

    def look(self) -> None:
        """Tells readers what has changed elsewhere."""
        for each in self._siblings:
            if not self._readers:
                each.arena.pass_over(each.seen)
                continue
            rows = each.arena.changes(each.seen)
            changed = list(each.busy() if rows is None else filter(None, map(_place_of, rows)))
            for reader in self._readers:
                if rows is None:
                    reader.tell_again()
                _tell_all(reader, changed)

    def _elsewhere(self, place: Place) -> Iterator[tuple["memoryview[float]", int]]:
        name = self._name(place)
        for each in self._siblings:
            row = each.arena.find(name)
            if row is not None:
                yield each.arena.cells, row.at

    def _own(self, place: Place) -> int:
        """Where its numbers are. 0 where there is no room for one more: they stay its own."""
        found = self._places.get(place)
        if found is None:
            try:
                found = self._arena.row(self._name(place), _SIZE, lasts=False).at
            except ArenaFullError:
                found = 0
            self._places[place] = found
        return found

    def _name(self, place: Place) -> str:
        return self._names.get(place) or self._names.setdefault(place, f"{_MARK}{place[0]} {place[1]}")


def _tell_all(reader: Reader, places: Iterable[Place]) -> None:
    for place in places:
        reader.tell(place)


def _place_of(row: Row) -> Place | None:
    """None where the row is no variant's."""
    if not row.name.startswith(_MARK):
        return None
    namespace, _, variant = row.name.removeprefix(_MARK).partition(" ")
    return namespace, variant
