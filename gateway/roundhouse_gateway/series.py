"""Counters, gauges and histograms, and their text for Prometheus.

prometheus-client looks labels up at the cost of a whole request's work, and writes a thousand models' series
in one go, during which nothing is answered. Here a series is found in one look-up, and the text is written in
slices between which requests are served. A family holds a bounded number of series: past it, new ones are
counted under `other`.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Final, Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

OTHER: Final = "other"
MODEL: Final = "model"
"""The label of what comes and goes."""
MOST_SERIES: Final = 50_000
"""Of one family."""
SLICE_SECONDS: Final = 0.0005
PAUSE_SECONDS: Final = 0.001
"""Between slices. A request takes several turns of the event loop, and may meet a slice at each."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def written(value: str) -> str:
    """As it stands in a label."""
    return value.translate(_ESCAPES)


class NoRoomError(Exception):
    """There is no place for the numbers of one more series."""


class Value:
    """One series of a counter or a gauge."""

    __slots__ = ("_ask", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._ask: Callable[[], float] | None = None

    def inc(self, by: float = 1) -> None:
        self.value += by

    def set(self, value: float) -> None:
        self.value = value

    def set_function(self, ask: Callable[[], float]) -> None:
        """Asked for its value whenever it is written."""
        self._ask = ask

    @contextmanager
    def track_inprogress(self) -> Iterator[None]:
        self.value += 1
        try:
            yield
        finally:
            self.value -= 1

    def elsewhere(self) -> float:
        """What the same series comes to in other processes of this gateway."""
        return 0

    def text(self, name: str, labels: str) -> str:
        return value_text(name, labels, self._ask() if self._ask else self.value)


class Distribution:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def text(self, name: str, labels: str) -> str:
        return distribution_text(name, labels, self._bounds, self._counts, self._sum)


def value_text(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {value!r}\n" if labels else f"{name} {value!r}\n"


def distribution_text(
    name: str, labels: str, bounds: Sequence[float], counts: Iterable[float], total: float
) -> str:
    """`counts` has one more than there are `bounds`: what is past all of them."""
    start = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
    totals = list(accumulate(counts))
    lines = [f'{start}{bound}"}} {each}\n' for bound, each in zip(bounds, totals, strict=False)]
    among = f"{{{labels}}}" if labels else ""
    lines.append(f'{start}+Inf"}} {totals[-1]}\n')
    lines.append(f"{name}_count{among} {totals[-1]}\n{name}_sum{among} {total!r}\n")
    return "".join(lines)


Series = TypeVar("Series", Value, Distribution)


class Family(Generic[Series]):
    """All series of one name."""

    def __init__(
        self, name: str, kind: str, text: str, labels: Sequence[str], make: Callable[[str], Series]
    ) -> None:
        """`make` is given the labels as they are written."""
        self.name = name
        self.head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        self._label_names = tuple(labels)
        self._make: Callable[[str], Series] = make
        self.bounds: Sequence[float] = ()
        """Of the buckets, where it is a histogram."""
        self._series: dict[tuple[str, ...], Series] = {}
        self._written: dict[tuple[str, ...], str] = {}
        self._model_at = self._label_names.index(MODEL) if MODEL in self._label_names else None
        self._of_models: dict[str, list[tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return len(self._series)

    def labels(self, *values: str) -> Series:
        """The series of these values, in the order of the labels' names."""
        return self._series.get(values) or self._new(values)

    def _new(self, values: tuple[str, ...]) -> Series:
        if len(values) != len(self._label_names):
            raise ValueError(f"{self.name!r} has the labels {self._label_names}, and not values {values!r}")
        others = (OTHER,) * len(values)
        if len(self._series) >= MOST_SERIES:
            return self._series.get(others) or self._add(others)
        try:
            return self._add(values)
        except NoRoomError:
            return self._series.get(others) or self._add(others)

    def _add(self, values: tuple[str, ...]) -> Series:
        pairs = zip(self._label_names, values, strict=True)
        text = ",".join(f'{name}="{written(value)}"' for name, value in pairs)
        made = self._series[values] = self._make(text)
        self._written[values] = text
        if self._model_at is not None:
            self._of_models.setdefault(written(values[self._model_at]), []).append(values)
        return made

    def models(self) -> Iterable[str]:
        """Of which it has any series, as they are written."""
        return self._of_models

    def let_go(self, model: str) -> None:
        """Whoever asks for a series of the model again begins a new one."""
        for values in self._of_models.pop(model, ()):
            del self._series[values], self._written[values]

    def texts(self) -> Iterator[str]:
        """The head, then each series; what is new meanwhile waits for the next time."""
        yield self.head
        for values, series in list(self._series.items()):
            if (text := self._written.get(values)) is not None:  # it may have been let go meanwhile
                yield series.text(self.name, text)


AnyFamily = Family[Value] | Family[Distribution]


class Numbers(Protocol):
    """Where series keep what they count: each by itself, or so that other processes see it."""

    def value(self, family: str, labels: str, kind: str) -> Value: ...

    def distribution(self, family: str, labels: str, bounds: Sequence[float]) -> Distribution: ...

    def claim(self, label: str, most: int) -> bool:
        """Whether this label of a key is among the first so many: the same for all who count."""
        ...

    def models(self) -> Iterable[str]:
        """Those that any series is of which a process before this one began, as they are written."""
        ...

    def let_go(self, model: str) -> None:
        """All series of the model, until they are made again."""
        ...

    def texts(self, family: AnyFamily) -> Iterator[str]: ...

    def of_process(self) -> bytes:
        """What the process itself uses, as text."""
        ...


class OwnNumbers:
    """Of this process alone."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def value(self, family: str, labels: str, kind: str) -> Value:  # noqa: ARG002 - nobody else is to find it
        return Value()

    def distribution(self, family: str, labels: str, bounds: Sequence[float]) -> Distribution:  # noqa: ARG002
        return Distribution(bounds)

    def claim(self, label: str, most: int) -> bool:
        if label not in self._claimed and len(self._claimed) >= most:
            return False
        self._claimed.add(label)
        return True

    def models(self) -> Iterable[str]:
        return ()

    def let_go(self, model: str) -> None:
        """There are no others that keep anything of it."""

    def texts(self, family: AnyFamily) -> Iterator[str]:
        return family.texts()

    def of_process(self) -> bytes:
        return generate_latest(self._process)


async def exposition(texts: Iterable[str]) -> AsyncIterator[bytes]:
    """The text, in slices that take no longer to make than others may wait."""
    lines: list[str] = []
    until = time.perf_counter() + SLICE_SECONDS
    for text in texts:
        lines.append(text)
        if time.perf_counter() >= until:
            yield "".join(lines).encode()
            lines.clear()
            await asyncio.sleep(PAUSE_SECONDS)
            until = time.perf_counter() + SLICE_SECONDS
    yield "".join(lines).encode()
