"""The figures that every engine has, and what is promised of them."""

from dataclasses import dataclass
from typing import Final

from tests.bench.engines.pair import DIRECTLY, ONE_STEP
from tests.bench.figure import Figure

SPEED: Final = 0.95
"""Of the library's own, at least."""


@dataclass(frozen=True, slots=True)
class Basics:
    speed: Figure
    start: Figure
    idle: Figure

    @property
    def all(self) -> tuple[Figure, ...]:
        return self.speed, self.start, self.idle


def basics(engine: str, work: str, unit: str, *, start: float) -> Basics:
    """`start`: how many times as long as the library alone it may take until it is ready."""
    return Basics(
        Figure("engines", f"{engine}, {work} over HTTP", unit, "higher", DIRECTLY, aim=SPEED),
        Figure("engines", f"{engine}, start to ready", "s", "lower", DIRECTLY, aim=start),
        Figure("engines", f"{engine}, idle", "% of core", "lower", budget=1),
    )


def stops(engine: str) -> Figure:
    name = f"{engine}, computes on when its client left"
    return Figure("engines", name, "ms", "lower", ONE_STEP, aim=1)


def eight_at_once(engine: str, what: str, unit: str) -> Figure:
    """Of requests against the library's batch."""
    return Figure("engines", f"{engine}, eight {what} at once", unit, "higher", "the library's batch", aim=1)
