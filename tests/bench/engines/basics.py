"""The figures that every engine has, and what is promised of them."""

from dataclasses import dataclass
from typing import Final

from tests.bench.engines.pair import DIRECTLY, ONE_STEP
from tests.bench.figure import Better, Figure

SPEED: Final = 0.95
"""Of the library's own, at least."""
_SPEED_NOISE: Final = 0.05
_START_NOISE: Final = 0.2
_STOP_NOISE: Final = 0.2
"""A step is tens of milliseconds of chat: who is looked at in the wrong one is late by a part of it."""

NOT_HELD: Final = frozenset(
    {
        "llama-cpp, computes on when its client left",
    }
)
"""Figures that are not yet as they are to be in each run on a quiet machine: told, and not enforced."""


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
        _promised(f"{engine}, {work} over HTTP", unit, "higher", DIRECTLY, SPEED, noise=_SPEED_NOISE),
        _promised(f"{engine}, start to ready", "s", "lower", DIRECTLY, start, noise=_START_NOISE),
        Figure("engines", f"{engine}, idle", "% of core", "lower", budget=1),
    )


def stops(engine: str) -> Figure:
    name = f"{engine}, computes on when its client left"
    return _promised(name, "ms", "lower", ONE_STEP, 1, noise=_STOP_NOISE)


def eight_at_once(engine: str, what: str, unit: str, *, against: str = "the library's batch") -> Figure:
    """Of requests against the library's batch."""
    return _promised(f"{engine}, eight {what} at once", unit, "higher", against, 1, noise=_SPEED_NOISE)


def _promised(name: str, unit: str, better: Better, against: str, ratio: float, *, noise: float) -> Figure:
    if name in NOT_HELD:
        return Figure("engines", name, unit, better, against, aim=ratio)
    return Figure("engines", name, unit, better, against, budget=ratio, noise=noise)
