"""The parts that can be measured by themselves, in the order in which they are."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from tests.bench import choosing, gateway, live, operator, proxying, workers
from tests.bench.engines import area as engines
from tests.bench.figure import Area, Figure, Result

MEASURE: Final[dict[Area, Callable[[], Iterator[Result]]]] = {
    "operator": operator.measure,
    "gateway": lambda: chain(
        gateway.measure(), choosing.measure(), proxying.measure(), live.measure(), workers.measure()
    ),
    "engines": engines.measure,
}
FIGURES: Final[tuple[Figure, ...]] = (
    *operator.FIGURES,
    *gateway.FIGURES,
    *choosing.FIGURES,
    *proxying.FIGURES,
    *live.FIGURES,
    *workers.FIGURES,
    *engines.FIGURES,
)
