"""An engine and the library that it is held against, both up, and what is measured of every such pair."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import IO, Any, Final

from tests.bench.engines.making import QUIET
from tests.bench.engines.speech import speech
from tests.bench.figure import Figure, Result
from tests.bench.machine import cpu_seconds, tree
from tests.conformance.engine.running import TRANSCRIPTIONS, Engine, form, processor_seconds, running
from tests.support.recordings import wav
from tests.support.waiting import wait_until

ROUNDS: Final = 7
DIRECTLY: Final = "the library directly"
ONE_STEP: Final = "one step of the library"
_READY_SECONDS: Final = 300
_IDLE_SECONDS: Final = 6
_LEAVES: Final = 4
_LEFT_SECONDS: Final = 300.0
_REST_SECONDS: Final = 1.5
"""Long enough after a step that nothing of it can follow."""
_AT_REST: Final = 0.05
"""Of a core."""
_NEXT_TO_NOTHING_SECONDS: Final = 0.003


@dataclass(frozen=True, slots=True)
class Library:
    """A process that is ready, and how long it took to be."""

    ready_seconds: float
    to: IO[str]
    answers: IO[str]

    def work(self, name: str = "call") -> tuple[float, Any]:
        """The seconds that it took, and what came out."""
        self.to.write(f"{name}\n")
        self.to.flush()
        seconds, came = json.loads(self.answers.readline())
        return seconds, came

    def seconds(self, name: str = "call") -> float:
        return self.work(name)[0]


@dataclass(frozen=True, slots=True)
class Subject:
    """How the engine is started, and its library: `told` follows the name of the library's module."""

    program: Sequence[str]
    library: str
    told: Sequence[object]
    model: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def served(self, folder: Path) -> Iterator[tuple[Engine, float]]:
        """The engine, its model named `m`, and the seconds from its start until it was ready."""
        source = {"type": "HuggingFace"}
        models = [{"name": "m", "path": str(self.model), "source": source}] if self.model else []
        # What the libraries warn of is theirs, and a start reads modules as a container's does: compiled.
        told = {"PYTHONWARNINGS": "default", "PYTHONDONTWRITEBYTECODE": ""}
        if models:
            told["ROUNDHOUSE_MODELS"] = json.dumps(models)
        began = time.monotonic()
        with running(("-m", *self.program), folder, **told | dict(self.variables)) as engine:
            # Asked a hundred times a second, it spends a fifth of its start's processor time on answers.
            wait_until(
                lambda: engine.ready, seconds=_READY_SECONDS, what=f"ready: {engine.logged}", every=0.05
            )
            yield engine, time.monotonic() - began

    @contextmanager
    def directly(self) -> Iterator[Library]:
        began = time.monotonic()
        module = f"tests.bench.engines.libraries.{self.library}"
        command = [sys.executable, "-m", module, *map(str, self.told)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | QUIET
        ) as process:
            assert process.stdin
            assert process.stdout
            try:
                while (line := process.stdout.readline()) != "ready\n":
                    assert line, f"{self.library} did not load"
                yield Library(time.monotonic() - began, process.stdin, process.stdout)
            finally:
                process.kill()


@dataclass(frozen=True, slots=True)
class Pair:
    engine: Engine
    library: Library
    starts: Sequence[tuple[float, float]]
    """Seconds until ready, of the engine and of the library."""


@contextmanager
def up(subject: Subject, folder: Path, *, starts: int = 1) -> Iterator[Pair]:
    """Both, started so many times in turns; those of the last time stay.

    Before that, once for nothing: who is first reads the libraries from the disk, for the other too.
    """
    found = []
    for _ in range(starts):
        with subject.served(folder) as (_, seconds):
            pass
        with subject.directly() as library:
            found.append((seconds, library.ready_seconds))
    with subject.served(folder) as (engine, seconds), subject.directly() as library:
        yield Pair(engine, library, [*found[1:], (seconds, library.ready_seconds)])


def in_turns(*works: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """The medians of what each gives, after a first round that does not count.

    To and fro: what a work leaves behind, in caches and in threads that wait, is not always one's loss.
    """
    found: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        order = list(zip(works, found, strict=True))
        for work, times in order if number % 2 else reversed(order):
            times.append(work())
    return [median(times[1:]) for times in found]


def taken(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def speed(figure: Figure, amount: float, ours: Callable[[], float], theirs: Callable[[], float]) -> Result:
    """Two ways to do as much work, each of which says in how many seconds."""
    ours_seconds, their_seconds = in_turns(ours, theirs)
    return Result(figure, amount / ours_seconds, amount / their_seconds)


def at_once(figure: Figure, pair: Pair, asks: Sequence[Callable[[], object]]) -> Result:
    """Requests that are sent at the same time, against all of them in the library's best call for many."""
    with ThreadPoolExecutor(len(asks)) as clients:
        ours = partial(taken, lambda: list(clients.map(lambda ask: ask(), asks)))
        return speed(figure, len(asks), ours, partial(pair.library.seconds, "batch"))


def start(figure: Figure, pair: Pair) -> Result:
    ours, theirs = zip(*pair.starts, strict=True)
    return Result(figure, median(ours), median(theirs))


def idle(figure: Figure, engine: Engine) -> Result:
    before, began = cpu_seconds(engine.process.pid), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    used = cpu_seconds(engine.process.pid) - before
    return Result(figure, 100 * used / (time.monotonic() - began))


def stop(
    figure: Figure, engine: Engine, asked: Callable[[], AbstractContextManager[object]], step_seconds: float
) -> Result:
    """How long it computes on after its client has left, at the worst of a few moments.

    `asked` sends a request that takes many steps, and hangs up at its end.
    """
    longest = 0.0
    for number in range(_LEAVES):
        with asked():
            wait_until(lambda: engine.metric("slots_computing") > 0, seconds=60, what="it computes")
            time.sleep(step_seconds * (1.5 + number / _LEAVES))
        longest = max(longest, _computes_on_seconds(engine, 4 * step_seconds + _REST_SECONDS))
    return Result(figure, 1000 * longest, 1000 * step_seconds)


def _computes_on_seconds(engine: Engine, watched_seconds: float) -> float:
    """From now until it takes no more of the processor than in the second half of the watched time."""
    processes = list(tree(engine.process.pid))

    def spent() -> float:
        return sum(map(processor_seconds, processes))

    began = time.monotonic()
    seen = [(0.0, spent())]
    while seen[-1][0] < watched_seconds:
        time.sleep(0.001)
        seen.append((time.monotonic() - began, spent()))
    middle, end = seen[len(seen) // 2], seen[-1]
    rate = (end[1] - middle[1]) / (end[0] - middle[0])
    if rate > _AT_REST:
        return watched_seconds  # at the least
    return next(at for at, used in seen if used >= end[1] - rate * (end[0] - at) - _NEXT_TO_NOTHING_SECONDS)


def post(engine: Engine, path: str, **told: object) -> dict[str, Any]:
    """What it answers to a request of JSON to the model `m`."""
    answer = engine.request("POST", path, *_form(told))
    assert answer.status == 200, answer.body
    return answer.json


@contextmanager
def left(engine: Engine, path: str, **told: object) -> Iterator[None]:
    """A request of JSON whose client hangs up at the end."""
    with contextlib.closing(engine.connect()) as connection:
        connection.request("POST", path, *_form(told))
        yield


@contextmanager
def left_recording(engine: Engine, **fields: str) -> Iterator[None]:
    """Minutes of speech, whose client hangs up at the end."""
    body, headers = form(wav(speech(_LEFT_SECONDS)), **fields)
    with contextlib.closing(engine.connect()) as connection:
        connection.request("POST", TRANSCRIPTIONS, body, headers)
        yield


def _form(told: Mapping[str, object]) -> tuple[bytes, dict[str, str]]:
    return json.dumps({"model": "m", **told}).encode(), {"Content-Type": "application/json"}
