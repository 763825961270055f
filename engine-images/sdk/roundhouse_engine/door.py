"""What the application sees of whoever admits requests.

Two kinds, with one face: a `Pool` whose models the environment names, and a `Fleet` whose models come and go
by a file while it runs.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Receive
from typing_extensions import override

from roundhouse_engine.answers import Answers
from roundhouse_engine.lease import Lease
from roundhouse_engine.leaving import left, unless_gone
from roundhouse_engine.memory import MemoryStatus
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models import ModelStatus
from roundhouse_engine.pool import Pool

T = TypeVar("T")


class Door(Protocol):
    draining: bool
    """Set once the engine is to leave: nothing is admitted any more."""

    answers: Answers
    """Of requests that have no place any more."""

    @property
    def generation(self) -> int:
        """Of the desired state that was read last."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of `models`, which costs more: each is asked how it is."""

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
    def waiting(self) -> int:
        """Requests that nothing is computed of yet: for a batch, for a slot, or for their model."""

    @property
    def slots(self) -> int: ...

    @property
    def overdue(self) -> int:
        """Slots that compute on for nobody, though they were told to stop."""

    @property
    def hung(self) -> bool:
        """Whether a model will never be computed again while this process lives."""

    @property
    def sessions_in_use(self) -> int: ...

    def admit(self) -> Lease:
        """A place for one request, whose body was not read; raises `EngineError`."""

    def pool_of(self, model: str) -> Pool:
        """Where the model, one of `models`, is computed; raises `EngineError` where it is not, for now."""

    @property
    def memory(self) -> MemoryStatus | None:
        """None where it is not bounded."""

    def away(self, model: str) -> bool:
        """Whether the model, one of `models`, was unloaded for others."""

    async def once_loaded(self, model: str, take: Callable[[Pool], T]) -> T:
        """What `take` does with the pool of a model that was away; raises `EngineError`."""

    async def leaving(self) -> None:
        """Returns once it drains."""

    async def supervise(self) -> str:
        """Keep everything alive until cancelled; returns the reason when the engine cannot serve."""

    async def drained(self) -> None:
        """Returns when nothing is admitted, nothing computes and no answer is being written."""

    def evict(self) -> None:
        """End what is still sent and computed."""


async def take_place(door: Door, model: str, lease: Lease, receive: Receive, deadline: float | None) -> None:
    """A place where the model is computed, for a request that has come as a whole; raises `EngineError`.

    Waits where the model has to be loaded again, and for those that came before.
    """
    if door.away(model):
        lease.stand_by()
        await unless_gone(receive, door.once_loaded(model, lease.join), left(deadline))
    else:
        lease.join(door.pool_of(model))
    if not lease.placed:
        await unless_gone(receive, lease.regain_place(), left(deadline))


def expose(door: Door, metrics: Metrics) -> None:
    """Let the gauges read the door when they are asked for."""
    metrics.slots.set_function(lambda: door.capacity)
    metrics.slots_in_use.set_function(lambda: door.in_use)
    metrics.slots_computing.set_function(lambda: door.computing)
    metrics.requests_waiting.set_function(lambda: door.waiting)
    metrics.slots_overdue.set_function(lambda: door.overdue)
    metrics.sessions_in_use.set_function(lambda: door.sessions_in_use)
    metrics.ready.set_function(lambda: float(door.ready))
    if door.memory is not None:
        metrics.memory_budget_bytes.set(door.memory.budget_bytes)
    metrics.registry.register(_Memory(door))


class _Memory(Collector):
    """One series for each model that is there and tells, and none for those that are gone."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        vram = GaugeMetricFamily(
            "roundhouse_engine_model_vram_bytes",
            "The most GPU memory that the model held so far, where its handler can tell",
            labels=["model"],
        )
        memory = GaugeMetricFamily(
            "roundhouse_engine_model_memory_bytes",
            "What the model was measured to take, of the GPU or else of the processes; 0: unloaded",
            labels=["model"],
        )
        for model in self._door.models:
            if model.vram_bytes is not None:
                vram.add_metric([model.name], model.vram_bytes)
            if model.memory_bytes is not None:
                memory.add_metric([model.name], model.memory_bytes if model.loaded else 0)
        yield from (vram, memory)
