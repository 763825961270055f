"""Metrics of all workers as one: each keeps its numbers in its arena, and whoever is scraped adds them up.

Counters and histograms are sums, to the last request, and never go back: who follows a worker goes on with
its numbers. So are gauges of what is in hand, of which a worker that died has nothing. Of the others the
largest counts: how old the oldest snapshot is, whether any store is away.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from typing_extensions import override

from roundhouse_gateway.series import (
    OTHER,
    AnyFamily,
    Distribution,
    NoRoomError,
    Value,
    distribution_text,
    value_text,
    written,
)
from roundhouse_gateway.workers.arena import Arena, ArenaFullError, Row
from roundhouse_gateway.workers.processes import Processes

LARGEST: Final = frozenset(
    f"roundhouse_gateway_{name}"
    for name in (
        "limits_store_away",
        "models",
        "resting_endpoints",
        "snapshot_age_seconds",
        "worker_restarts_total",
    )
)
"""What all workers see, or each by itself, and that is no amount."""
MARK: Final = "\n"
"""Between the name of a family and labels, which never hold it."""
KEY: Final = "key "
"""Begins the name of a row that says only that this label of a key has been claimed."""
_MODEL: Final = re.compile(r'(?:^|,)model="((?:[^"\\]|\\.)*)"')


class SharedValue(Value):
    """A counter or gauge whose number lies in the arena of its worker."""

    __slots__ = ("_asked", "_at", "_cells", "_elsewhere")

    def __init__(
        self, row: Row, arena: Arena, elsewhere: Callable[[], float], asked: "list[SharedValue]"
    ) -> None:
        """Among `asked` are those whose `publish` is to be called now and then."""
        super().__init__()
        self._cells, self._at = arena.cells, row.at
        self._elsewhere = elsewhere
        self._asked = asked

    @override
    def inc(self, by: float = 1) -> None:
        self._cells[self._at] += by

    @override
    def set(self, value: float) -> None:
        self._cells[self._at] = value

    @override
    @contextmanager
    def track_inprogress(self) -> Iterator[None]:
        self._cells[self._at] += 1
        try:
            yield
        finally:
            self._cells[self._at] -= 1

    @override
    def elsewhere(self) -> float:
        return self._elsewhere()

    @override
    def set_function(self, ask: Callable[[], float]) -> None:
        super().set_function(ask)
        self._asked.append(self)

    def publish(self) -> None:
        """Writes down what it has to ask for."""
        if self._ask is not None:
            self._cells[self._at] = self._ask()


class SharedDistribution(Distribution):
    """A histogram in the arena of its worker: the count of each bucket, then the sum."""

    __slots__ = ("_at", "_cells")

    def __init__(self, bounds: Sequence[float], row: Row, arena: Arena) -> None:
        super().__init__(bounds)
        self._cells, self._at = arena.cells, row.at

    @override
    def observe(self, value: float) -> None:
        cells = self._cells
        cells[self._at + bisect_left(self._bounds, value)] += 1
        cells[self._at + len(self._bounds) + 1] += value


class SummedNumbers:
    """The numbers of worker `own`, and those of all."""

    def __init__(self, arenas: Sequence[Arena], own: int, processes: Processes) -> None:
        self._arenas = arenas
        self._own = own
        self._processes = processes
        self._asked: list[SharedValue] = []
        self._read: list[int] = [0] * len(arenas)
        self._series: dict[str, dict[str, list[tuple[Arena, Row]]]] = {}
        self._of_models: dict[str, list[Row]] = {}
        """Rows of this worker and of those that had its place, by how the model is written in labels."""
        self._claimed: set[str] = set()

    def value(self, family: str, labels: str, kind: str) -> Value:
        arena, name = self._arenas[self._own], family + MARK + labels
        row = self._row(family, labels, 1, lasts=kind == "counter")
        others = [each for each in self._arenas if each is not arena]

        def elsewhere() -> float:
            found = ((each, each.find(name)) for each in others)
            return sum(each.cells[row.at] for each, row in found if row is not None)

        return SharedValue(row, arena, elsewhere, self._asked)

    def distribution(self, family: str, labels: str, bounds: Sequence[float]) -> Distribution:
        row = self._row(family, labels, len(bounds) + 2, lasts=True)
        return SharedDistribution(bounds, row, self._arenas[self._own])

    def _row(self, family: str, labels: str, size: int, *, lasts: bool) -> Row:
        spare = all(each.endswith(f'="{OTHER}"') for each in labels.split(",")) or not labels
        try:
            return self._arenas[self._own].row(family + MARK + labels, size, lasts=lasts, spare=spare)
        except ArenaFullError as error:
            raise NoRoomError from error

    def claim(self, label: str, most: int) -> bool:
        name = KEY + written(label)
        self._find()
        if name not in self._claimed and len(self._claimed) < most:
            with self._arenas[self._own].lock:
                self._find()
                if len(self._claimed) < most:
                    with suppress(ArenaFullError):
                        self._arenas[self._own].row(name, 1, lasts=True)
                        self._claimed.add(name)
        return name in self._claimed

    def models(self) -> Iterator[str]:
        self._find()
        own = self._arenas[self._own]
        return (model for model, rows in self._of_models.items() if not all(map(own.is_hidden, rows)))

    def let_go(self, model: str) -> None:
        """Its numbers stay, so that none goes back: not for who scrapes before others have let go of it."""
        own = self._arenas[self._own]
        for row in self._of_models.get(model, ()):
            own.hide(row)

    def publish(self) -> None:
        """Writes down what others cannot ask this worker for; now and then."""
        for each in self._asked:
            each.publish()

    def texts(self, family: AnyFamily) -> Iterator[str]:
        self.publish()
        self._find()
        yield family.head
        for labels, places in list(self._series.get(family.name, {}).items()):
            if not all(arena.is_hidden(row) for arena, row in places):
                yield self._text(family, labels, places)

    def _text(self, family: AnyFamily, labels: str, places: Sequence[tuple[Arena, Row]]) -> str:
        columns = zip(*(arena.cells[row.at : row.at + row.size] for arena, row in places), strict=True)
        if family.bounds:
            *counts, total = (sum(each) for each in columns)
            return distribution_text(family.name, labels, family.bounds, map(int, counts), total)
        (found,) = columns
        number = max(found) if family.name in LARGEST else sum(found)
        return value_text(family.name, labels, int(number) if number == int(number) else number)

    def _find(self) -> None:
        """Takes in the rows that any worker has added."""
        for place, arena in enumerate(self._arenas):
            rows = arena.rows()
            for row in rows[self._read[place] :]:
                family, mark, labels = row.name.partition(MARK)
                if mark:
                    self._series.setdefault(family, {}).setdefault(labels, []).append((arena, row))
                    if place == self._own and (model := _MODEL.search(labels)):
                        self._of_models.setdefault(model[1], []).append(row)
                elif family.startswith(KEY):
                    self._claimed.add(family)
            self._read[place] = len(rows)

    def of_process(self) -> bytes:
        return self._processes.text()
