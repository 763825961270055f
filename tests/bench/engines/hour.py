"""An hour's recording through faster-whisper: what it takes of memory, and when the first words come.

The model is tiny, so that an hour takes a minute: what is held of the recording is the same with any.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.bench.engines.pair import Subject
from tests.bench.engines.speech import speech
from tests.bench.figure import Figure, Result
from tests.bench.machine import resident_mb
from tests.conformance.engine.running import TRANSCRIPTIONS, Engine, form
from tests.support.recordings import wav
from tests.support.whisper import make_whisper

_SECONDS: Final = 3600.0
_WINDOWS_AT_ONCE: Final = 2
_LOOK_SECONDS: Final = 0.1

MEMORY: Final = Figure("engines", "an hour of speech, over its model", "MB", "lower", budget=400)
GROWTH: Final = Figure("engines", "an hour of speech, more than in its first part", "MB", "lower", budget=50)
FIRST: Final = Figure(
    "engines", "an hour of speech, first words", "s", "lower", "two windows of it", budget=1, noise=0.2
)
FIGURES: Final = (MEMORY, GROWTH, FIRST)


def measure(folder: Path) -> Iterator[Result]:
    model = make_whisper(folder / "whisper")
    variables = {"ROUNDHOUSE_DEVICE": "cpu"}
    subject = Subject(("roundhouse_faster_whisper",), "faster_whisper", (), model, variables)
    with subject.served(folder) as (engine, _):
        assert engine.post(wav(speech(30)), language="en").status == 200
        before = resident_mb(engine.process.pid)
        with _watched(engine) as seen:
            words = _words(engine, wav(speech(_SECONDS)))
    first = max(seen[: len(seen) // 6])
    yield Result(MEMORY, max(seen) - before)
    yield Result(GROWTH, max(0.0, max(seen[len(seen) // 6 :]) - first))
    windows = [later - earlier for earlier, later in pairwise(words)]
    yield Result(FIRST, words[0], _WINDOWS_AT_ONCE * sum(windows) / len(windows))


@contextlib.contextmanager
def _watched(engine: Engine) -> Iterator[list[float]]:
    """What it holds from now on, again and again, in MB."""
    seen: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            seen.append(resident_mb(engine.process.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        over.set()
        watching.join()


def _words(engine: Engine, audio: bytes) -> list[float]:
    """When words came, in seconds from when all of the recording was sent: once for each window."""
    body, headers = form(audio, language="en", stream="true")
    with contextlib.closing(engine.connect(timeout=600)) as connection:
        connection.request("POST", TRANSCRIPTIONS, body, headers)
        sent = time.monotonic()
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        came = []
        while line := answer.readline():
            if b"transcript.text.delta" in line:
                came.append(time.monotonic() - sent)
    assert len(came) > _SECONDS / 30, f"words came {len(came)} times"
    return came
