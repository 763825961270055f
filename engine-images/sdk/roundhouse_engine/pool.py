"""The door before an engine's slots: who may compute, who waits, who is refused before its body is read.

It keeps the slots alive and knows nothing of HTTP.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from roundhouse_engine.accelerator import ACCELERATOR
from roundhouse_engine.answers import Answers
from roundhouse_engine.errors import EngineError, Refusal, refused, too_slow
from roundhouse_engine.footprint import Footprint
from roundhouse_engine.lease import Lease
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.models import ModelState, ModelStatus
from roundhouse_engine.slot import Slot

if TYPE_CHECKING:
    from roundhouse_engine.batching import Batcher

T = TypeVar("T")
logger = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 30.0
_SLOW_UPLOADS: Final = 8
"""For each slot: they cost a descriptor and room in the spool, and all want to be served in the end."""


class Pool:
    """Slots that all hold the same models, and the door before them.

    `separate`: each slot has its own copy of the models, and so of their memory. `sessions`: the places for
    realtime sessions, apart so that recordings keep nobody from speaking; they live and leave with these.
    """

    generation: Final = 1
    """What the environment gives never changes while the engine runs."""
    memory: Final = None

    def __init__(
        self,
        slots: list[Slot],
        metrics: Metrics,
        names: Sequence[str] = (),
        *,
        separate: bool = True,
        sessions: "Pool | None" = None,
    ) -> None:
        self._slots = slots
        self.sessions = sessions
        self.names = tuple(names)
        self._all_slots = slots + (sessions._slots if sessions else [])  # noqa: SLF001 - another of this class
        self.footprint = Footprint(self._all_slots, self.names, separate=separate)
        self._leases: set[Lease] = set()
        self._waiting = deque[Lease]()
        self._changed = asyncio.Event()
        for slot in slots:
            slot.changed = self.note
        self._was_up = not slots
        self._leaving = asyncio.Event()
        self.metrics = metrics
        self.answers = Answers()
        self.together = 1
        """How many requests each slot computes, where the batcher puts them together."""
        self.batcher: Batcher | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Called when a slot is up or has ended its work, and when a request has."""
        self.release: Callable[[], None] = lambda: None
        """Frees the models' memory, where ending the slots does not; blocks."""

    def note(self) -> None:
        """Something happened that somebody may wait for."""
        self._was_up = self._was_up or self.capacity > 0
        self._changed.set()
        self.on_change()

    @property
    def draining(self) -> bool:
        return self._leaving.is_set()

    @draining.setter
    def draining(self, value: bool) -> None:
        if value:
            self._leaving.set()
            if self.sessions is not None:
                self.sessions.draining = True

    async def leaving(self) -> None:
        """Returns once it drains."""
        await self._leaving.wait()

    @property
    def capacity(self) -> int:
        """Places at slots that are alive."""
        return sum(slot.up for slot in self._slots) * self.together

    @property
    def in_use(self) -> int:
        """Places taken: by slots that compute, and by requests that soon will."""
        placed = sum(lease.placed for lease in self._leases)
        # Where requests are computed together, each keeps its place until its end.
        return placed + (self.computing if self.batcher is None else 0)

    @property
    def free(self) -> bool:
        """Whether a place is free, and nobody waits for it."""
        return not self._waiting and self.in_use < self.capacity

    @property
    def ready(self) -> bool:
        """From the first time on that there was a place for either kind of work."""
        greeted = self.sessions is None or self.sessions._was_up  # noqa: SLF001 - another of this class
        return greeted and self.capacity > 0 and not (self.draining or ACCELERATOR.lost)

    @property
    def slots(self) -> int:
        return len(self._slots) * self.together

    @property
    def sessions_in_use(self) -> int:
        return 0 if self.sessions is None else self.sessions.in_use

    @property
    def computing(self) -> int:
        return sum(slot.busy for slot in self._slots)

    @property
    def waiting(self) -> int:
        return len(self._waiting) + (self.batcher.waiting if self.batcher else 0)

    @property
    def overdue(self) -> int:
        """Slots that compute on for nobody, though they were told to stop."""
        return sum(slot.overdue_since is not None for slot in self._slots)

    @property
    def hung(self) -> bool:
        """Whether all slots of a kind do so for minutes."""
        hung = bool(self._slots) and all(slot.hung for slot in self._slots)
        return hung or (self.sessions is not None and self.sessions.hung)

    @property
    def partly_hung(self) -> bool:
        """Whether any of them does, of whatever kind."""
        return any(slot.hung for slot in self._all_slots)

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        state = ModelState.READY if self.capacity else ModelState.LOADING
        return tuple(
            ModelStatus(
                name,
                state,
                self.progress(name),
                self.capacity,
                self.in_use,
                loaded=state is ModelState.READY,
                vram_bytes=self.footprint.vram_bytes(name),
                memory_bytes=self.footprint.memory_bytes(),
                sessions=self.places,
            )
            for name in self.names
        )

    @property
    def places(self) -> tuple[int, int] | None:
        """Sessions that are held, and places for them; None where it takes none."""
        return None if self.sessions is None else (self.sessions.in_use, self.sessions.capacity)

    def progress(self, model: str) -> float:
        """How far the model is loaded where it is furthest."""
        return max(slot.progress.get(model, 0.0) for slot in self._slots)

    @property
    def idle(self) -> bool:
        """Whether nothing is admitted and nothing computes."""
        return not (self._leases or self.computing) and (self.sessions is None or self.sessions.idle)

    def pool_of(self, model: str) -> "Pool":  # noqa: ARG002 - its slots hold all models
        return self

    def away(self, model: str) -> bool:  # noqa: ARG002 - nothing is unloaded here
        return False

    async def once_loaded(self, model: str, take: "Callable[[Pool], T]") -> T:  # noqa: ARG002 - see `away`
        return take(self)

    async def up(self) -> None:
        """Returns when a slot is alive."""
        while not self.capacity:
            self._changed.clear()
            await self._changed.wait()
        if self.sessions is not None:
            await self.sessions.up()

    async def supervise(self) -> str:
        """Keep the slots alive until cancelled; returns the reason when the models cannot be served."""
        tasks = [asyncio.create_task(self._supervise(slot)) for slot in self._slots]
        if self.sessions is not None:
            tasks.append(asyncio.create_task(self.sessions.supervise()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, slot: Slot) -> str:
        """While another slot serves, one that cannot be loaded (memory is short) is no reason to end that."""
        while True:
            failure = await slot.supervise()
            if self.capacity == 0:
                return failure
            logger.error("slot is given up for now", extra={"why": failure, "again_seconds": _AGAIN_SECONDS})
            await asyncio.sleep(_AGAIN_SECONDS)

    def admit(self) -> Lease:
        """A place for one request; raises `EngineError` when there is none, with the reason."""
        self.check()
        lease = Lease(self)
        self.enter(lease)
        return lease

    def check(self) -> None:
        """Raises `EngineError` when no place is free."""
        refusal = self._refusal()
        if refusal is not None:
            self.metrics.refused.labels(refusal.value).inc()
            raise refused(refusal)

    def enter(self, lease: Lease) -> None:
        self._leases.add(lease)

    def _refusal(self) -> Refusal | None:
        if self.draining:
            return Refusal.DRAINING
        if self.capacity == 0 or ACCELERATOR.lost:
            return Refusal.LOADING
        return None if self.free else Refusal.FULL

    def free_slot(self) -> Slot:
        """A slot for a request that has a place; raises where one died since."""
        for slot in self._slots:
            if slot.up and not slot.busy:
                return slot
        raise refused(Refusal.LOADING)

    async def idle_slot(self, taken: Container[Slot]) -> Slot:
        """Returns a slot that computes nothing and is not one of those `taken`, once there is one."""
        while True:
            for slot in self._slots:
                if slot.up and not slot.busy and slot not in taken:
                    return slot
            self._changed.clear()
            await self._changed.wait()

    async def turn(self, lease: Lease) -> None:
        """Returns when a place is free and nobody waits who came before."""
        self._waiting.append(lease)
        try:
            while self._waiting[0] is not lease or self.in_use >= self.capacity:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waiting.remove(lease)
            self._changed.set()

    def make_room(self) -> None:
        """End the youngest slow upload where there are too many: of the oldest the most would be lost."""
        slow = [lease for lease in self._leases if lease.uploading and not lease.placed]
        if len(slow) > _SLOW_UPLOADS * self.slots:
            max(slow, key=lambda lease: lease.begun).evict(too_slow())
        self._changed.set()

    def evict(self, verdict: EngineError | None = None) -> None:
        """End what is still sent and computed; clients are told that the engine leaves, or `verdict`."""
        verdict = verdict or refused(Refusal.DRAINING)
        for lease in self._leases:
            lease.evict(verdict)
        for slot in self._slots:
            slot.evict(verdict)
        if self.sessions is not None:
            self.sessions.evict(verdict)

    def end(self, lease: Lease) -> None:
        self._leases.discard(lease)
        self.note()

    async def drained(self) -> None:
        """Returns when nothing is admitted, nothing computes and no answer is being written."""
        while self._leases or self.in_use:
            self._changed.clear()
            await self._changed.wait()
        await self.answers.written()
        if self.sessions is not None:
            await self.sessions.drained()
