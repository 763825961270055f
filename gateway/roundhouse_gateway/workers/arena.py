"""Memory in which one worker writes numbers under names, and all others read them while it does.

Rows are only ever added, so a place that was found stays right. A number is written in one step by the one
worker whose arena it is; nobody waits for anybody. Where that worker dies, its successor goes on with the
same rows: what `lasts` stays, such as counters, and the rest is set to nought, such as what was in flight.
Its worker may hide a row and show it again; the numbers stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roundhouse_gateway.workers.lock import Lock

CELL: Final = 8
RING: Final = 8192
"""How many changes may pass between two looks of a reader before it has to look at everything."""
_USED, _CLEARED, _CHANGES, _RING = 0, 1, 2, 3
_FIRST: Final = _RING + RING
_HEAD: Final = 4
_HIDDEN: Final = 1
"""How far before the name it says whether the row is hidden."""
SPARE_CELLS: Final = 4096
"""At the end: for rows in which is counted what has no row of its own."""


class ArenaFullError(Exception):
    """There is no room for one more row."""


@dataclass(frozen=True, slots=True)
class Row:
    """`at` is the cell of its first number, `hidden_at` that which says whether it is hidden."""

    name: str
    at: int
    size: int
    lasts: bool
    hidden_at: int


class Arena:
    """`cells` are the numbers, for those who know their place."""

    def __init__(self, memory: memoryview, lock: Lock) -> None:
        self.cells = memory.cast("d")
        self._memory = memory
        self.lock = lock
        self._spare = min(SPARE_CELLS, len(self.cells) // 4)
        self._rows: dict[str, Row] = {}
        self._in_order: list[Row] = []
        self._by_place: dict[int, Row] = {}
        self._read_to = _FIRST
        self._changes = 0
        if not self.cells[_USED]:
            self.cells[_USED] = _FIRST

    def find(self, name: str) -> Row | None:
        self._read()
        return self._rows.get(name)

    def row(self, name: str, size: int, *, lasts: bool, spare: bool = False) -> Row:
        """The row of that name, which is added where there is none. For the arena's own worker.

        `spare`: where no other has room, this has. Else `ArenaFullError`.
        """
        found = self.find(name)
        if found is None:
            return self._add(name, size, len(self.cells) - (0 if spare else self._spare), lasts=lasts)
        self.cells[found.hidden_at] = 0
        return found

    def hide(self, row: Row) -> None:
        """Until somebody wants it again. For the arena's own worker."""
        self.cells[row.hidden_at] = 1

    def is_hidden(self, row: Row) -> bool:
        return self.cells[row.hidden_at] != 0

    def rows(self) -> Sequence[Row]:
        """All of them, in the order in which they were added."""
        self._read()
        return self._in_order

    def _read(self) -> None:
        """Takes in the rows that were added since."""
        if self.cells[_USED] == self._read_to:
            return
        with self.lock:
            end = int(self.cells[_USED])
        while self._read_to < end:
            length, size, lasts = (int(each) for each in self.cells[self._read_to : self._read_to + 3])
            start = self._read_to + _HEAD
            name = bytes(self._memory[start * CELL : start * CELL + length]).decode()
            row = Row(name, start + _cells_for(length), size, bool(lasts), start - _HIDDEN)
            self._rows[name] = self._by_place[row.at] = row
            self._in_order.append(row)
            self._read_to = row.at + size

    def _add(self, name: str, size: int, end: int, *, lasts: bool) -> Row:
        text = name.encode()
        with self.lock:
            start = int(self.cells[_USED]) + _HEAD
            row = Row(name, start + _cells_for(len(text)), size, lasts, start - _HIDDEN)
            if row.at + size > end:
                raise ArenaFullError
            for place, number in enumerate((len(text), size, lasts, 0), start - _HEAD):
                self.cells[place] = number
            self._memory[start * CELL : start * CELL + len(text)] = text
            for place in range(row.at, row.at + size):
                self.cells[place] = 0  # its last worker may have died while it wrote here
            self.cells[_USED] = row.at + size
        self._read()
        return row

    def take_over(self) -> None:
        """By a new worker, which goes on where the last one ended."""
        self._changes = int(self.cells[_CHANGES])

    def changed(self, at: int) -> None:
        """Tells readers that the row there is no longer as it was."""
        cells, count = self.cells, self._changes
        cells[_RING + count % RING] = at
        cells[_CHANGES] = self._changes = count + 1

    def changes(self, since: "Seen") -> list[Row] | None:
        """The rows that have changed since; None where it may be any of them."""
        count, cleared = int(self.cells[_CHANGES]), int(self.cells[_CLEARED])
        passed = count - since.changes
        lost = cleared != since.cleared or passed > RING
        since.changes, since.cleared = count, cleared
        if lost:
            return None
        self._read()
        places = {int(self.cells[_RING + one % RING]) for one in range(count - passed, count)}
        return [self._by_place[place] for place in places if place in self._by_place]

    def pass_over(self, seen: "Seen") -> None:
        """For a reader whom nobody asks: what has changed by now is none of its business."""
        seen.changes, seen.cleared = int(self.cells[_CHANGES]), int(self.cells[_CLEARED])

    def clear(self) -> None:
        """For the successor of a worker that has died."""
        for row in self.rows():
            if not row.lasts:
                for place in range(row.at, row.at + row.size):
                    self.cells[place] = 0
        self.cells[_CLEARED] += 1


@dataclass(slots=True)
class Seen:
    """Up to where a reader knows the changes of one arena."""

    changes: int = 0
    cleared: int = 0


def _cells_for(length: int) -> int:
    return -(-length // CELL)
