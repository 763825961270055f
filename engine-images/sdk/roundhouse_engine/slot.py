"""A slot: a place where one request at a time is computed, for as long as the engine lives.

It hands work to its runner, stops what nobody waits for any more, and starts a dead runner again. Who may
compute is decided in `pool`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from typing import BinaryIO, Final

from roundhouse_engine.errors import EngineError, Problem, Refusal, failed, refused
from roundhouse_engine.events import (
    Ask,
    Done,
    Event,
    Failed,
    Heard,
    Loaded,
    LoadFailed,
    Loading,
    Memory,
    Stopped,
    Work,
    ends,
)
from roundhouse_engine.metrics import Metrics
from roundhouse_engine.runners import Runner

logger = logging.getLogger(__name__)

_LOAD_ATTEMPTS: Final = 3
_RESTART_SECONDS: Final = 0.2
_HUNG_SECONDS: Final = 600.0
"""No step of any model takes as long."""


class Slot:
    """One runner at a time, and its work."""

    def __init__(self, launch: Callable[[], Runner], cancel_seconds: float, metrics: Metrics) -> None:
        self._launch = launch
        self._cancel_seconds = cancel_seconds
        self._metrics = metrics
        self._runner: Runner | None = None
        self._answers: asyncio.Queue[Event] | None = None
        self._work: Work | None = None
        """What it computes, or computed last."""
        self._begun = 0.0
        self._cancelled_at: float | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self.overdue_since: float | None = None
        """From when on work goes on that should have stopped, by the monotonic clock; None: there is none."""
        self.up = False
        self.progress: dict[str, float] = {}
        self.vram_bytes: dict[str, int] = {}
        """The most that each model held, of those that tell."""
        self.ram_bytes = 0
        """Memory of the process that loading took."""
        self.changed: Callable[[], None] = lambda: None
        """Called whenever the slot is up, or its work has ended."""

    @property
    def busy(self) -> bool:
        """Whether it computes, also what nobody waits for any more."""
        return self._answers is not None

    @property
    def hung(self) -> bool:
        """Whether work goes on for minutes that should have stopped: a thread ends with its process alone."""
        since = self.overdue_since
        return since is not None and since <= time.monotonic() - _HUNG_SECONDS

    async def supervise(self) -> str:
        """Keep a runner alive until cancelled; returns only when the models cannot be loaded, and why."""
        deaths = 0
        while True:
            self._runner = self._launch()
            events = self._runner.events()
            async with contextlib.aclosing(events):
                try:
                    async for event in events:
                        if isinstance(event, LoadFailed):
                            return event.message
                        if isinstance(event, Loaded):
                            deaths = 0
                        self._hear(event)
                finally:
                    self.up = False
            died = self._runner.obituary()
            deaths += 1
            self._hear(Failed(_died(died)))
            if deaths == _LOAD_ATTEMPTS:
                return (
                    f"The engine's process died {deaths} times before it was ready: {died}. What it wrote "
                    "into this log may say why; where memory is short, give it more, or a smaller model."
                )
            await asyncio.sleep(_RESTART_SECONDS * deaths)

    async def compute(self, ask: Work, file: BinaryIO) -> AsyncGenerator[Event, None]:
        """The request's events, the last of them `Done`; raises `EngineError` where it fails."""
        if self._runner is None or not self.up:
            raise refused(Refusal.LOADING)
        self._runner.begin(ask, file)
        self._work, self._begun = ask, time.monotonic()
        answers = self._answers = asyncio.Queue[Event]()
        try:
            while True:
                event = await answers.get()
                if isinstance(event, Failed):
                    raise EngineError(event.problem)
                if isinstance(event, Stopped):  # whoever calls it off listens no more
                    raise failed(
                        "The engine took the request for cancelled, which it was not. Send it again."
                    )
                yield event
                if ends(event):
                    return
        finally:
            if self._answers is answers:  # else it ended, and the slot may serve another by now
                self._cancel()

    def evict(self, verdict: EngineError) -> None:
        """End the request that is computed here: the engine's time is up, or its model's."""
        if self._answers is not None:
            self._answers.put_nowait(Failed(verdict.problem))

    def _cancel(self) -> None:
        """Nobody waits any more: stop, and if it does not stop in time, end the runner."""
        if self._runner is None:
            return
        self._cancelled_at = time.monotonic()
        self._metrics.cancelled.inc()
        self._runner.cancel()
        self._overdue = asyncio.get_running_loop().call_later(self._cancel_seconds, self._overrun)

    def _overrun(self) -> None:
        logger.warning("cancelled work did not stop", extra={"after_seconds": self._cancel_seconds})
        self.overdue_since = time.monotonic()
        if self._runner is not None:
            self._runner.kill()

    def _hear(self, event: Event) -> None:
        match event:
            case Loading(model, progress):
                self.progress[model] = progress
            case Memory(model, vram_bytes):
                self.vram_bytes[model] = max(vram_bytes, self.vram_bytes.get(model, 0))
            case Loaded(seconds, ram_bytes):
                self.up = True
                self.ram_bytes = ram_bytes
                self.changed()
                self._metrics.load_seconds.set(seconds)
            case _ if self._answers is not None:
                self._answers.put_nowait(event)
                self._count(event)
                if ends(event):
                    self._free()
            case _:
                pass  # an end without a request: the runner died idle

    def _count(self, event: Event) -> None:
        """The time of sessions as it passes, and of work that failed, or that nobody waited for, at its end.

        Of other work the routes count it.
        """
        if self._work is None:
            return
        session = isinstance(self._work, Ask) and self._work.stream is not None
        told = isinstance(event, Done) and self._cancelled_at is None
        if isinstance(event, Heard):
            seconds = event.compute_seconds
        elif ends(event) and not (told or session):
            seconds = time.monotonic() - self._begun
        else:
            return
        self._metrics.compute_seconds.labels(self._work.model).inc(seconds)

    def _free(self) -> None:
        self._answers = None
        self.overdue_since = None
        self.changed()
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        if self._cancelled_at is not None:
            self._metrics.cancel_seconds.observe(time.monotonic() - self._cancelled_at)
            self._cancelled_at = None


def _died(how: str) -> Problem:
    return failed(
        f"The process that computed this request died ({how}); it is being started again. "
        "Send the request again; if it dies again, what it sends is at fault or memory is short.",
        code="engine_process_died",
    ).problem
