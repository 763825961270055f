"""What the application sees of whoever admits requests.

Two kinds, with one face: a `Pool` whose models the environment names, and a `Fleet` whose models come and go
by a file while it runs.
"""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from roundhouse_engine.answers import Answers
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models import ModelStatus
from roundhouse_engine.pool import Pool


class Door(Protocol):
    draining: bool
    """Set once the engine is to leave: nothing is admitted any more."""

    answers: Answers
    """Of requests that have no place any more."""

    @property
    def generation(self) -> int:
        """Of the desired state that was read last."""

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        """Every model that is served, is to be served, or is on its way out; in the order of the list."""

    @property
    def ready(self) -> bool:
        """Whether the engine takes work."""

    @property
    def capacity(self) -> int: ...

    @property
    def in_use(self) -> int: ...

    @property
    def computing(self) -> int: ...

    @property
    def slots(self) -> int: ...

    @property
    def sessions_in_use(self) -> int: ...

    def admit(self) -> Lease:
        """A place for one request, whose body was not read; raises `EngineError`."""

    def pool_of(self, model: str) -> Pool:
        """Where the model, one of `models`, is computed; raises `EngineError` where it is not, for now."""

    async def supervise(self) -> str:
        """Keep everything alive until cancelled; returns the reason when the engine cannot serve."""

    async def drained(self) -> None:
        """Returns when nothing is admitted, nothing computes and no answer is being written."""

    def evict(self) -> None:
        """End what is still sent and computed."""


def expose(door: Door, metrics: Metrics) -> None:
    """Let the gauges read the door when they are asked for."""
    metrics.slots.set_function(lambda: door.capacity)
    metrics.slots_in_use.set_function(lambda: door.in_use)
    metrics.slots_computing.set_function(lambda: door.computing)
    metrics.sessions_in_use.set_function(lambda: door.sessions_in_use)
    metrics.ready.set_function(lambda: float(door.ready))
    metrics.registry.register(_Memory(door))


class _Memory(Collector):
    """One series for each model that is there and tells, and none for those that are gone."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "roundhouse_engine_model_vram_bytes",
            "The most GPU memory that the model held so far, where its handler can tell",
            labels=["model"],
        )
        for model in self._door.models:
            if model.vram_bytes is not None:
                family.add_metric([model.name], model.vram_bytes)
        yield family
