"""The slots of an engine: who may compute, where, and what happens when a slot dies.

It admits or refuses (before a body is read), hands work to runners, stops what nobody waits for any more and
starts dead runners again. It knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import BinaryIO, Final, Self

from roundhouse_engine.errors import EngineError, Problem, Refusal, failed, refused
from roundhouse_engine.events import Ask, Event, Failed, Loaded, LoadFailed, Loading, ends
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.runners import Runner

logger = logging.getLogger(__name__)

_LOAD_ATTEMPTS: Final = 3
_RESTART_SECONDS: Final = 0.2


class Slot:
    """One runner at a time, and its work."""

    def __init__(self, launch: Callable[[], Runner], cancel_seconds: float, metrics: Metrics) -> None:
        self._launch = launch
        self._cancel_seconds = cancel_seconds
        self._metrics = metrics
        self._runner: Runner | None = None
        self._answers: asyncio.Queue[Event] | None = None
        self._cancelled_at: float | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self.up = False
        self.abandoned = False
        self.progress: dict[str, float] = {}
        self.failure: str | None = None
        self.freed: Callable[[], None] = lambda: None
        """Called whenever the slot's work has ended."""

    @property
    def busy(self) -> bool:
        return self._answers is not None

    async def supervise(self) -> None:
        """Keep a runner alive until cancelled; returns only when the models cannot be loaded."""
        deaths = 0
        while True:
            self._runner = self._launch()
            events = self._runner.events()
            async with contextlib.aclosing(events):
                async for event in events:
                    if isinstance(event, Loaded):
                        deaths = 0
                    self._hear(event)
                    if self.failure is not None:
                        return
            died = self._runner.obituary()
            deaths += 1
            self.up = False
            if deaths == _LOAD_ATTEMPTS:
                self.failure = f"The engine's process died {deaths} times before it was ready: {died}."
                return
            logger.error("engine process died", extra={"how": died, "while_working": self.busy})
            self._metrics.restarts.inc()
            self._hear(Failed(_died(died)))
            await asyncio.sleep(_RESTART_SECONDS * deaths)

    async def transcribe(self, ask: Ask, file: BinaryIO) -> AsyncGenerator[Event, None]:
        """The request's events, the last of them `Done`; raises `EngineError` where it fails."""
        if self._runner is None or not self.up:
            raise refused(Refusal.LOADING)
        answers = self._answers = asyncio.Queue[Event]()
        self._runner.begin(ask, file)
        try:
            while True:
                event = await answers.get()
                if isinstance(event, Failed):
                    raise EngineError(event.problem)
                yield event
                if ends(event):
                    return
        finally:
            if self._answers is answers:  # else it ended, and the slot may serve another by now
                self._cancel()

    def evict(self) -> None:
        """End the request that is computed here: the engine's time is up."""
        if self._answers is not None:
            self._answers.put_nowait(Failed(refused(Refusal.DRAINING).problem))

    def _cancel(self) -> None:
        """Nobody waits any more: stop, and if it does not stop in time, end the runner."""
        if self._runner is None:
            return
        self.abandoned = True
        self._cancelled_at = time.monotonic()
        self._metrics.cancelled.inc()
        self._runner.cancel()
        self._overdue = asyncio.get_running_loop().call_later(self._cancel_seconds, self._overrun)

    def _overrun(self) -> None:
        logger.warning("cancelled work did not stop", extra={"after_seconds": self._cancel_seconds})
        if self._runner is not None:
            self._runner.kill()

    def _hear(self, event: Event) -> None:
        match event:
            case Loading(model, progress):
                self.progress[model] = progress
            case Loaded(seconds):
                self.up = True
                self._metrics.load_seconds.set(seconds)
                logger.info("models loaded", extra={"seconds": round(seconds, 3)})
            case LoadFailed(message):
                self.failure = message
            case _ if self._answers is not None:
                self._answers.put_nowait(event)
                if ends(event):
                    self._free()
            case _:
                pass  # an end without a request: the runner died idle

    def _free(self) -> None:
        self._answers = None
        self.abandoned = False
        self.freed()
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        if self._cancelled_at is not None:
            self._metrics.cancel_seconds.observe(time.monotonic() - self._cancelled_at)
            self._cancelled_at = None


class Pool:
    """All slots of an engine, and the door before them."""

    def __init__(self, slots: list[Slot], metrics: Metrics) -> None:
        self._slots = slots
        self._leases = 0
        self._freed = asyncio.Event()
        for slot in slots:
            slot.freed = self._freed.set
        self.draining = False
        self.metrics = metrics
        metrics.slots.set_function(lambda: self.capacity)
        metrics.slots_in_use.set_function(lambda: self.in_use)
        metrics.slots_computing.set_function(lambda: sum(slot.busy for slot in slots))
        metrics.ready.set_function(lambda: float(self.ready))

    @property
    def capacity(self) -> int:
        """Slots that are alive."""
        return sum(slot.up for slot in self._slots)

    @property
    def in_use(self) -> int:
        """Admitted requests, and work that was cancelled but has not stopped yet."""
        return self._leases + sum(slot.abandoned for slot in self._slots)

    @property
    def ready(self) -> bool:
        return self.capacity > 0 and not self.draining

    @property
    def slots(self) -> int:
        return len(self._slots)

    def progress(self, model: str) -> float:
        """How far the model is loaded where it is furthest."""
        return max(slot.progress.get(model, 0.0) for slot in self._slots)

    async def supervise(self) -> str:
        """Keep every slot alive until cancelled; returns the reason when the models cannot be served."""
        tasks = [asyncio.create_task(slot.supervise()) for slot in self._slots]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return next(slot.failure for slot in self._slots if slot.failure is not None)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def admit(self) -> "Lease":
        """A place for one request; raises `EngineError` when there is none, with the reason."""
        refusal = self._refusal()
        if refusal is not None:
            self.metrics.refused.labels(refusal.value).inc()
            raise refused(refusal)
        self._leases += 1
        return Lease(self)

    def _refusal(self) -> Refusal | None:
        if self.draining:
            return Refusal.DRAINING
        if self.capacity == 0:
            return Refusal.LOADING
        return Refusal.FULL if self.in_use >= self.capacity else None

    def free_slot(self) -> Slot:
        """A slot for an admitted request; raises where one died since."""
        for slot in self._slots:
            if slot.up and not slot.busy:
                return slot
        raise refused(Refusal.LOADING)

    def evict(self) -> None:
        """End what is still computed; its clients are told that the engine is leaving."""
        for slot in self._slots:
            slot.evict()

    def give_back(self) -> None:
        self._leases -= 1
        self._freed.set()

    async def drained(self) -> None:
        """Returns when nothing is admitted and nothing computes."""
        while self.in_use:
            self._freed.clear()
            await self._freed.wait()


class Lease:
    """An admitted request's place. Leaving the context stops its work and gives the place back."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._pool.give_back()

    def transcribe(self, ask: Ask, file: BinaryIO) -> AsyncGenerator[Event, None]:
        # Nothing may be awaited between this and the generator's first step, which makes the slot busy.
        return self._pool.free_slot().transcribe(ask, file)


def _died(how: str) -> Problem:
    return failed(
        f"The process that was transcribing this recording died ({how}); it is being started again. "
        "Send the request again; if it dies again, the recording is at fault or memory is short.",
        code="engine_process_died",
    ).problem
